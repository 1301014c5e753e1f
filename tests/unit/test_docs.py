"""The documentation says what is so. What it shows is run or, where that would cost too much, at least understood."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import typer
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from connectors.sandbox.app import create as create_sandbox
from hub import app, cli, metrics
from hub.commands.check import settings_table
from hub.config import Settings, VendorSettings, read
from hub.errors import ConfigError, Receipt, Retry, Unknown
from hub.model import DeliveryState, Disposition, Event, EventKind, Job, Record
from tests.conftest import Clock
from tests.serving import served

ROOT = Path(__file__).parents[2]
FOLDERS = ("hub", "connectors", "mappings", "tests", "infra")
PAGES = sorted([*ROOT.glob("*.md"), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.md"))])
ENGINE = (ROOT / "hub/README.md").read_text()
SCHEMA = "".join(p.read_text() for p in sorted((ROOT / "hub/migrations/versions").glob("*.sql")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(text) if kind == language]


def shown(prefix: str) -> list[tuple[str, str]]:
    """(page, rest of the line) of every `$ <prefix> ...` in a console block."""
    return [
        (named(page), line.removeprefix(f"$ {prefix} "))
        for page in PAGES
        for block in blocks(page.read_text(), "console")
        for line in block.splitlines()
        if line.startswith(f"$ {prefix} ")
    ]


def section(text: str, title: str) -> str:
    """The text under a heading, up to the next of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def first_cells(text: str) -> set[str]:
    """What stands in backticks in the first column of the tables of a text."""
    return {
        w for line in re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE) for w in re.findall(r"`([^`]+)`", line)
    }


# Settings


def documented(name: str, prefix: str, text: str) -> bool:
    """In full; or as `_REST` or `REST` where the page says what stands before it."""
    words = set(re.findall(r"`([A-Z0-9_]+)`", text))
    tails = {name[i:] for i, letter in enumerate(name) if letter == "_" and i >= len(prefix) - 1}
    return name in text or name.removeprefix(prefix) in words or bool(tails & words)


def test_every_setting_is_documented_where_it_belongs() -> None:
    tables = {v: str(app.table(v).model_config.get("env_prefix")) for v in app.TABLES}
    missing = []
    for row in settings_table():
        assert row["help"], f"{row['name']} has no description"
        own = [v for v, prefix in tables.items() if row["name"].startswith(prefix) and prefix != "HUB_"]
        if row["name"].lower().removeprefix("hub_") in Settings.model_fields:
            page, prefix = ROOT / "README.md", "HUB_"
        else:
            vendor = own[0] if own else "s3_lake"
            page, prefix = ROOT / f"connectors/{vendor}/README.md", tables[vendor]
        if not documented(row["name"], prefix, page.read_text()):
            missing.append(f"{row['name']} in {named(page)}")
    assert not missing


def test_no_page_speaks_of_a_setting_that_does_not_exist() -> None:
    known = {row["name"] for row in settings_table()}
    others = {"HUB_DB_MIGRATE_PASSWORD", "HUB_DB_RUN_PASSWORD", "HUB_VERSION"}  # of infra/, not of the hub
    wrong = []
    for page in PAGES:
        for name in set(re.findall(r"\bHUB_[A-Z0-9_]+", page.read_text())) - known - others:
            example = "HUB_ACME_" in name and named(page) == "connectors/README.md"
            stem = name.endswith("_") and any(k.startswith(name) for k in known)
            wrong += [] if example or stem else [f"{named(page)}: {name}"]
    assert not wrong


@pytest.mark.parametrize("file", ["env.example", "vendors.env.example"])
def test_the_hub_refuses_the_examples_as_they_are(file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [x for x in (ROOT / "infra" / file).read_text().splitlines() if x and not x.startswith("#")]
    given = dict(line.split("=", 1) for line in lines)
    assert given.keys() <= {row["name"] for row in settings_table()}
    for name in [n for n in os.environ if n.startswith("HUB_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    tables: list[type[VendorSettings]] = (
        [Settings, app.table("stripe")] if file == "env.example" else [app.table(v) for v in app.TABLES]
    )
    for table in tables:
        with pytest.raises(ConfigError):
            read(table)


# Commands


def command_tree() -> Any:
    return typer.main.get_command(cli.app)


def test_every_command_is_documented() -> None:
    text = section(ENGINE, "Commands")
    assert {name for name in command_tree().commands if f"`hub {name}`" not in text} == set()


@pytest.mark.parametrize(("page", "line"), shown("hub"))
def test_every_hub_command_that_is_shown_would_be_understood(page: str, line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)
    command = command_tree().commands.get(name)
    assert command, f"{page}: there is no command {name}"
    command.make_context(name, arguments)  # raises for an unknown option, a missing argument, a wrong value


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert shown("make")
    assert [(page, line) for page, line in shown("make") if line.split()[0] not in targets] == []


@pytest.mark.parametrize("line", ["check --json", "config --json"])
def test_cheap_commands_that_are_shown_work(line: str, tmp_path: Path) -> None:
    assert line in {rest for _, rest in shown("hub")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HUB_")}
    environment |= {"HUB_SANDBOX_URL": "http://127.0.0.1:9", "HUB_API_TOKEN": "t" * 24, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "hub.cli", *line.split()],
        env=environment, cwd=tmp_path, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    rows = orjson.loads(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, b"")
    if line.startswith("check"):
        assert [r for r in rows if not r["ok"]] == []
        assert {r["what"] for r in rows} >= {f"settings of {v}" for v in app.TABLES}
    else:
        assert {r["name"]: r["value"] for r in rows}["HUB_API_TOKEN"] == "set", "a secret is never shown"


async def test_the_side_door_does_what_is_shown(clock: Clock) -> None:
    lines = [rest for page, rest in shown("curl") if page == "connectors/README.md"]
    assert len(lines) >= 8
    transport = httpx.ASGITransport(app=create_sandbox(seed=7, clock=clock))
    async with httpx.AsyncClient(transport=transport) as http:
        for line in lines:
            words = [w for w in shlex.split(line, comments=True) if w != "-s"]
            options = {k: words.pop(words.index(k) + 1) for k in ("-X", "-d") if k in words}
            (url,) = [w for w in words if not w.startswith("-")]
            method = options.get("-X", "POST" if "-d" in options else "GET")
            answer = await http.request(method, f"http://{url}", content=options.get("-d"))
            assert answer.status_code < 300, f"{line}: {answer.text}"


# Links


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(FENCE, "", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = re.sub(r"`[^`\n]*`", "", re.sub(FENCE, "", page.read_text()))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" not in target:
                yield page, target


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page, target in links():
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        index = file / "README.md" if file.is_dir() else file
        if not file.exists() or (anchor and anchor not in anchors(index)):
            broken.append(f"{named(page)}: {target}")
    assert not broken


# What hub/README.md says of the engine


def test_the_states_are_the_states() -> None:
    text = section(ENGINE, "A delivery's states")
    table = text[text.index("| state |") : text.index("The database refuses")]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(rows) == sorted(DeliveryState)
    (drawing,) = blocks(text, "")
    assert {s for s in DeliveryState if not re.search(rf"\b{s}\b", drawing)} == set()
    moves = text[text.index("| from | to |") :]
    words = {
        w
        for row in re.findall(r"^\| ([a-z, ]+) \| ([a-z, ]+) \|", moves, re.MULTILINE)
        for c in row
        for w in c.split(", ")
    }
    assert words - {"from", "to"} == set(DeliveryState)


def test_dispositions_outcomes_kinds_and_fields_are_named() -> None:
    assert first_cells(section(ENGINE, "The data's way: six hops, three transactions")) >= set(Disposition)
    errors = ast.parse((ROOT / "hub/errors.py").read_text())
    (alias,) = [n for n in errors.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "Outcome"]
    assert alias.value is not None
    assert first_cells(section(ENGINE, "Five outcomes")) == set(ast.unparse(alias.value).split(" | "))
    assert first_cells(section(ENGINE, "Three kinds of destination")) == set(app.KINDS.values())
    (words,) = re.findall(r"paused_by IN \(([^)]*)\)", SCHEMA)
    assert first_cells(section(ENGINE, "Pauses")) - {"paused_by"} == set(re.findall(r"'(\w+)'", words))


def test_metrics_and_log_lines_are_named() -> None:
    made = {m.name + ("_total" if m.type == "counter" else "") for m in metrics.create().registry.collect()}
    assert first_cells(section(ENGINE, "Metrics")) == made
    call = re.compile(r'_?log\.(?:info|warning|error|exception)\(\s*"(\w+)"')
    written = {w for p in (ROOT / "hub").rglob("*.py") for w in call.findall(p.read_text())}
    assert first_cells(section(ENGINE, "Log lines")) >= written | {"library"}


def test_every_path_of_the_api_and_every_table_is_named() -> None:
    paths = set(yaml.safe_load((ROOT / "hub/openapi.yaml").read_text())["paths"]) - {"/openapi.json"}
    text = section(ENGINE, "The API")
    assert {p for p in paths if not re.search(rf"[` ]{re.escape(p)}`", text)} == set()
    assert first_cells(section(ENGINE, "Where things are")) >= set(
        re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", SCHEMA)
    )


def test_every_module_of_the_engine_is_named() -> None:
    modules = {
        p.name + ("/" if p.is_dir() else "") for p in (ROOT / "hub").iterdir() if p.suffix in ("", ".py", ".yaml")
    }
    named_there = first_cells(section(ENGINE, "Where things are"))
    assert modules - named_there - {"__init__.py", "__pycache__/"} == set()


# The connector of connectors/README.md


class Books:
    """Acme as the example takes it to be: one record per path; a PUT makes it so."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.writes = 0
        self.lose = False
        self.app = Starlette(routes=[Route("/me", self.me), Route("/{rest:path}", self.record, methods=["GET", "PUT"])])

    async def me(self, request: Request) -> JSONResponse:
        good = request.headers["authorization"] == "Bearer k"
        return JSONResponse({"name": "Acme"}, 200 if good else 401)

    async def record(self, request: Request) -> Any:
        path = request.url.path
        if request.method == "PUT":
            self.writes += 1
            self.records[path] = await request.json() | {"id": "4711"}
        if self.lose:
            return JSONResponse({}, 502)
        return JSONResponse(self.records.get(path, {"code": "unknown"}), 200 if path in self.records else 404)


async def test_the_connector_of_the_guide_keeps_the_contract(clock: Clock) -> None:
    made: dict[str, Any] = {"__name__": "acme"}
    for block in blocks((ROOT / "connectors/README.md").read_text(), "python"):
        exec(compile(block, "connectors/README.md", "exec", dont_inherit=True), made)
    now = datetime.fromtimestamp(clock(), UTC)
    event = Event("evt_1", EventKind.SNAPSHOT, "invoice.paid", b"{}", now, now, object_id="in_1")
    job = Job(1, event, (Record("invoice", "upsert", "in_1", "k_in_1", {"total": 1}, "d1", "acme/invoice@1"),))
    books = Books()
    with served(books.app) as url:
        acme = made["create"](made["AcmeSettings"](api_key="k", base_url=url))
        assert await acme.find(job) is None
        books.lose = True
        (lost,) = await acme.send([job])
        assert isinstance(lost, Unknown)
        books.lose = False
        found = await acme.find(job)
        assert isinstance(found, Receipt)
        assert [(k.vendor_id, k.digest) for k in found.links] == [("4711", "d1")]
        assert (await acme.send([job]), len(books.records), books.writes) == ([found], 1, 2)
        assert await acme.ping() == "connected as Acme"
        await acme.close()
    (away,) = await made["create"](made["AcmeSettings"](api_key="k", base_url=url)).send([job])
    assert isinstance(away, Retry)
    with pytest.raises(ValueError, match="HUB_ACME_API_KEY is missing"):
        made["AcmeSettings"]()


# infra/


def test_compose_runs_the_hub_in_order_and_gives_nobody_too_much() -> None:
    compose = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
    services = compose["services"]
    for name, service in services.items():
        assert "logging" in service, name
        for other in service.get("depends_on", {}):
            assert other in services
        if "billing-hub" in service["image"]:
            assert service["command"][0] in command_tree().commands
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
    assert services["hub-serve"]["env_file"] == ["hub.env"], "the web process has no vendor's secrets"
    assert [n for n, s in services.items() if "hub_migrate" in str(s.get("environment"))] == ["migrate", "grants"]
    assert compose["networks"]["store"]["internal"]
    assert all(not p.startswith("0.0.0.0") and p.startswith("127.") for p in services["hub-serve"]["ports"])


def test_the_lakes_policy_allows_no_more_than_the_connector_needs() -> None:
    policy = orjson.loads((ROOT / "infra/aws/lake-policy.json").read_bytes())
    actions = {a for s in policy["Statement"] for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    assert actions == {"s3:PutObject", "s3:GetObject", "s3:ListBucket"}
    assert all(s["Resource"].startswith("arn:aws:s3:::BUCKET") for s in policy["Statement"])

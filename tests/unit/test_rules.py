"""The rules of the house, as tests: who may import whom, which statements exist, how big a file may grow."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hub import migrate
from hub.db import SQL

ROOT = Path(__file__).parents[2]

LEVELS: dict[str, int] = {
    "hub.model": 0,
    "hub.money": 0,
    "hub.ordering": 0,
    "hub.grouping": 0,
    "hub.steps": 0,
    "hub.errors": 1,
    "hub.legible": 1,
    "hub.destination": 2,
    "hub.conservation": 2,
    "hub.retry": 3,
    "hub.mapping": 3,
    "hub.config": 3,
    "hub.log": 3,
    "hub.metrics": 3,
    "hub.guard": 4,
    "hub.signature": 3,
    "hub.envelope": 3,
    "hub.db": 3,
    "hub.migrate": 4,
    "hub.migrations": 4,
    "hub.store": 4,
    "hub.circuit": 5,
    "hub.limits": 6,
    "hub.sealing": 5,
    "hub.routing": 5,
    "hub.search": 5,
    "hub.operate": 5,
    "hub.parameters": 6,
    "hub.held": 5,
    "hub.judge": 5,
    "hub.mirror": 5,
    "hub.compose": 6,
    "hub.intake": 6,
    "hub.patience": 4,
    "hub.sweep": 6,
    "hub.retention": 6,
    "hub.backfill": 7,
    "hub.deliver": 7,
    "hub.reconcile": 8,
    "hub.worker": 8,
    "hub.auth": 8,
    "hub.api": 9,
    "hub.app": 10,
    "hub.bench": 13,
    "hub.commands": 12,
    "hub.cli": 14,
}
"""A module may import what is on a lower level than its own (or its own package)."""

MAY_IMPORT_CONNECTORS = {"hub.app", "hub.cli", "hub.commands", "hub.bench"}
CONNECTORS_MAY_IMPORT = {"hub.destination", "hub.errors", "hub.model", "hub.mapping", "hub.config", "hub.ordering"}


def modules(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


def unit(dotted: str) -> str:
    """`hub.mapping.record` -> `hub.mapping`."""
    return ".".join(dotted.split(".")[:2])


def test_imports_point_down() -> None:
    wrong = []
    for path in modules("hub"):
        me = unit(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for name in imports(path) if me != "hub" else ():
            if name.startswith("connectors") and me not in MAY_IMPORT_CONNECTORS:
                wrong.append(f"{me} imports {name}")
            if name.startswith("hub.") and unit(name) != me and LEVELS[unit(name)] >= LEVELS[me]:
                wrong.append(f"{me} (level {LEVELS[me]}) imports {name} (level {LEVELS[unit(name)]})")
    assert not wrong


def test_connectors_know_only_the_contract_and_never_their_simulator() -> None:
    wrong = []
    for path in modules("connectors"):
        parts = path.relative_to(ROOT).parts
        if len(parts) == 2 or parts[1] == "sandbox":
            continue
        sandboxed = "simulator" in parts or path.name in ("simulator.py", "sandbox_env.py")
        for name in imports(path):
            place = name.split(".")
            if place[0] == "hub" and len(place) > 1:
                allowed = {"hub.config"} if sandboxed else CONNECTORS_MAY_IMPORT
                wrong += [f"{path} imports {name}"] if unit(name) not in allowed else []
            if place[0] == "connectors" and len(place) > 2 and place[1] != "simulator":
                inside = place[2] in ("simulator", "sandbox_env")
                wrong += [f"{path} imports another vendor: {name}"] if place[1] != parts[1] else []
                wrong += [f"{path} shares code across the wall: {name}"] if inside != sandboxed else []
    assert not wrong


def test_every_statement_is_used_and_every_use_exists() -> None:
    uses = re.compile(r'SQL\["(\w+)"\]|\.fetch\(\s*"(\w+)"')
    used = {a or b for path in modules("hub") for a, b in uses.findall(path.read_text())}
    assert used <= SQL.keys(), used - SQL.keys()
    assert SQL.keys() <= used, SQL.keys() - used


def test_a_file_can_be_read_in_one_go() -> None:
    lines = {str(p): len(p.read_text().splitlines()) for p in modules("hub") + modules("connectors")}
    assert {p: n for p, n in lines.items() if n > 420} == {}, "it holds two ideas"


def test_the_code_and_the_newest_migration_agree() -> None:
    steps = sorted(p.name for p in (ROOT / "hub/migrations/versions").glob("v*.py"))
    assert steps[-1].startswith(f"v{migrate.HEAD}_")
    assert [s[1:5] for s in steps] == [f"{i:04d}" for i in range(1, len(steps) + 1)]

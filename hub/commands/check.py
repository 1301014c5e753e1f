"""`hub check` and `hub config`: would this installation work, and what can be set."""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import asdict, dataclass
from typing import Any, get_args

from pydantic import SecretStr

from hub import app
from hub.config import Settings, VendorSettings, read, where_set
from hub.errors import ConfigError, OutcomeError
from hub.mapping import FOLDER, MappingProblems, load, run_examples


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was checked."""

    what: str
    ok: bool
    detail: str

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def check(*, connect: bool) -> list[Result]:
    """Everything that can be checked without moving data. Never raises for a finding."""
    results: list[Result] = []
    settings: Settings | None = None
    try:
        settings = read(Settings)
        app.use_sandbox(settings)
        results.append(
            Result(
                "settings", True, "complete" if settings.api_token else "complete, but HUB_API_TOKEN is needed to serve"
            )
        )
    except ConfigError as error:
        results += [Result("settings", False, p) for p in error.problems]
    good: list[tuple[str, VendorSettings]] = []
    for vendor in app.TABLES:
        if settings is not None and vendor not in (*settings.destinations, app.FETCHER):
            continue
        try:
            good.append((vendor, read(app.table(vendor))))
            results.append(Result(f"settings of {vendor}", True, "complete"))
        except ConfigError as error:
            results += [Result(f"settings of {vendor}", False, p) for p in error.problems]
    results += _mappings(settings)
    if connect:
        results += asyncio.run(_connect(good))
    return results


def _mappings(settings: Settings | None) -> list[Result]:
    folder = (settings and settings.mappings_dir) or FOLDER
    try:
        mappings = load(folder)
    except MappingProblems as error:
        return [Result(f"mappings in {folder}", False, p) for p in error.problems]
    examples = run_examples(mappings)
    wrong = [Result(f"example {e.file}: {e.name}", False, e.difference or "differs") for e in examples if not e.ok]
    return wrong or [
        Result(f"mappings in {folder}", True, f"{len(mappings.all())} mappings, {len(examples)} examples agree")
    ]


async def _connect(good: list[tuple[str, VendorSettings]]) -> list[Result]:
    results = []
    for vendor, settings in good:
        destination = importlib.import_module(f"connectors.{vendor}.destination").create(settings)
        try:
            results.append(Result(f"connection to {vendor}", True, await destination.ping()))
        except OutcomeError as error:
            outcome = error.outcome
            said = getattr(outcome, "cause", None) or getattr(outcome, "reason", None) or repr(outcome)
            results.append(Result(f"connection to {vendor}", False, f"{said} {getattr(outcome, 'fix', '')}".strip()))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
            results.append(Result(f"connection to {vendor}", False, f"{type(error).__name__}: {str(error)[:200]}"))
        finally:
            await destination.close()
    return results


def settings_table() -> list[dict[str, str]]:
    """Rows of `hub config`: name, type, default, value (`set` for secrets), help. Read from the tables themselves."""
    rows: list[dict[str, str]] = []
    tables: list[type[VendorSettings]] = [Settings, *(app.table(v) for v in app.TABLES)]
    for cls in tables:
        prefix = str(cls.model_config.get("env_prefix", ""))
        given = where_set(cls)
        for name, field in cls.model_fields.items():
            variable = f"{prefix}{name}".upper()
            secret = _is_secret(field.annotation)
            value = given.get(name)
            rows.append(
                {
                    "name": variable,
                    "type": _type_name(field.annotation),
                    "default": "" if field.is_required() or field.default is None else _plain(field.default),
                    "value": ("set" if secret else value) if value else "",
                    "help": field.description or "",
                }
            )
    return rows


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(a) for a in get_args(annotation))


def _type_name(annotation: Any) -> str:
    if _is_secret(annotation):
        return "secret"
    names = [a for a in get_args(annotation) if a is not type(None)]
    if names and not isinstance(annotation, type):
        return " | ".join(_type_name(a) if not isinstance(a, str) else a for a in names)
    return getattr(annotation, "__name__", str(annotation))


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(_plain(v) for v in value)
    return "" if isinstance(value, SecretStr) else str(value)

"""The composition root: settings in, a running hub out. Values are made here and passed down; there are no globals.

The only module beside `hub.cli` and `hub.commands` that may import connectors, and it does so by name, when needed: a
web process loads no vendor's SDK.
"""

from __future__ import annotations

import importlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hub import api, config, held, intake, metrics, migrate, reconcile, search
from hub.backfill import Backfill
from hub.compose import Composer
from hub.config import Settings, VendorSettings
from hub.db import UNAVAILABLE, Database
from hub.deliver import Deliverer, LogDeliverer
from hub.destination import Destination, Kind, Limit, LogDestination, Policy, Source
from hub.errors import ConfigError
from hub.limits import Turns
from hub.mapping import FOLDER, Mappings, load
from hub.mirror import Mirror
from hub.model import DeliveryState
from hub.patience import Patience
from hub.retention import Pruner
from hub.routing import Router
from hub.sweep import Listing, Sweeper
from hub.worker import Beside, Settler, Worker, Workers

KINDS: Mapping[str, Kind] = {
    "stripe": "ledger",
    "salesforce": "state",
    "netsuite": "ledger",
    "avalara": "ledger",
    "s3_lake": "log",
}
"""The destinations there are. To add one: a folder in `connectors`, a line here and in `TABLES`."""

TABLES: Mapping[str, str] = {
    "stripe": "StripeSettings",
    "salesforce": "SalesforceSettings",
    "netsuite": "NetSuiteSettings",
    "avalara": "AvalaraSettings",
    "s3_lake": "S3LakeSettings",
}
"""Vendor -> name of its settings class in `connectors.<vendor>.settings`."""

WEBHOOKS = "/webhooks/stripe"

API_CONNECTIONS, HEALTH_CONNECTIONS = 4, 2
"""Of the pool's eight, the most that questions and probes may hold: the rest is the intake's."""

FETCHER = "stripe"
"""Not a destination of anybody's data: it turns thin notifications into events."""


TAX = "tax"
"""Not a vendor of its own: AvaTax again, asked for tax on drafts. Enabled by `HUB_AVALARA_TAX=calculate`."""


@dataclass(frozen=True, slots=True)
class Core:
    """What web and workers share."""

    settings: Settings
    db: Database
    mappings: Mappings
    router: Router
    metrics: metrics.Metrics
    clock: Callable[[], float] = time.time


def table(vendor: str) -> type[VendorSettings]:
    """A vendor's settings class."""
    return cast(type[VendorSettings], getattr(importlib.import_module(f"connectors.{vendor}.settings"), TABLES[vendor]))


def use_sandbox(settings: Settings) -> None:
    """With `HUB_SANDBOX_URL`: every variable that is not set points at the sandbox. Called once, before settings are
    read.
    """
    if settings.sandbox_url:
        environment = importlib.import_module("connectors.sandbox.environment").environment(settings.sandbox_url)
        for name, value in environment.items():
            os.environ.setdefault(name, value)


def read_settings(*, serving: bool) -> tuple[Settings, VendorSettings]:
    """The hub's and Stripe's settings. Raises `ConfigError` with the problems of both, all at once."""
    problems: list[str] = []
    settings: Settings | None = None
    try:
        settings = config.read(Settings)
        use_sandbox(settings)
    except ConfigError as error:
        problems += error.problems
    stripe: VendorSettings | None = None
    try:
        stripe = config.read(table("stripe"))
    except ConfigError as error:
        problems += error.problems
    named = settings.destinations if settings else os.environ.get("HUB_DESTINATIONS", "").split(",")
    problems += [
        f"HUB_DESTINATIONS: there is no destination {d!r}; there are {', '.join(sorted(set(KINDS) - {FETCHER}))}"
        for d in named
        if d.strip() and (d.strip() not in KINDS or d.strip() == FETCHER)
    ]
    if settings is not None and serving and settings.api_token is None:
        problems.append("HUB_API_TOKEN: is required to serve; make one with `openssl rand -hex 24`")
    if serving and stripe is not None and not getattr(stripe, "webhook_secrets", ()):
        problems.append(
            "HUB_STRIPE_WEBHOOK_SECRETS: is required to serve; it is the endpoint's signing secret (whsec_...)"
        )
    if problems or settings is None or stripe is None:
        raise ConfigError(problems)
    return settings, stripe


def enabled(settings: Settings) -> dict[str, Kind]:
    """The destinations of this hub and their kinds."""
    kinds = {name: KINDS[name] for name in (*settings.destinations, FETCHER)}
    return kinds | ({TAX: "state"} if "avalara" in settings.destinations and _calculates() else {})


def _calculates() -> bool:
    """A wrong value is reported with AvaTax's other settings."""
    try:
        return bool(config.read(importlib.import_module("connectors.avalara.settings").Situation).tax == "calculate")
    except ConfigError:
        return False


async def open_core(settings: Settings, stripe: VendorSettings, dsn: str, *, pool: int = 8) -> Core:
    """Connect, check the schema, load the mappings. Raises `ConfigError`, `MappingProblems` or one of `UNAVAILABLE`."""
    mappings = load(settings.mappings_dir or FOLDER)
    if (problem := (await migrate.current(dsn)).problem()) is not None:
        raise ConfigError([problem])
    router = Router(
        kinds=enabled(settings),
        types=mappings.routes(),
        accounts=frozenset(getattr(stripe, "accounts", ())),
        livemode=bool(getattr(stripe, "livemode", False)),
        coalesce=settings.coalesce_seconds,
        fetcher=FETCHER,
    )
    return Core(settings, await Database.connect(dsn, size=pool), mappings, router, metrics.create())


class Web(Starlette):
    """Starlette, with the webhook endpoint in front of it: routing and its middleware are for people's requests."""

    def __init__(self, webhooks: ASGIApp, **more: Any) -> None:
        super().__init__(**more)
        self._webhooks = webhooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One comparison more for everything else, less work for what comes by the thousand."""
        if scope["type"] == "http" and scope["path"] == WEBHOOKS and scope["method"] == "POST":
            await self._webhooks(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def web(core: Core, stripe: VendorSettings) -> Starlette:
    """The web application: intake, API, health, metrics."""
    secrets = [s.get_secret_value().encode() for s in getattr(stripe, "webhook_secrets", ())]
    token = core.settings.api_token
    if token is None:
        raise ConfigError(["HUB_API_TOKEN: is required to serve"])
    limits = intake.Limits(body_bytes=core.settings.max_body_bytes)
    endpoint = intake.Intake(core.db, core.router, secrets, core.clock, core.metrics, limits)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await core.db.close()

    return Web(
        endpoint,
        routes=[
            Route(WEBHOOKS, endpoint, methods=["POST"]),
            *health(core),
            *api.routes(core.db.share(API_CONNECTIONS), core.clock, token.get_secret_value(), core.mappings),
        ],
        lifespan=lifespan,
    )


def health(core: Core) -> list[Route]:
    """Is the process alive, can it work, and how is it doing: for orchestrators and Prometheus."""

    db = core.db.share(HEALTH_CONNECTIONS)

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        try:
            await db.fetch("ready")
        except UNAVAILABLE as error:
            return JSONResponse({"status": "not ready", "reason": f"database: {type(error).__name__}"}, 503)
        return JSONResponse({"status": "ready"})

    async def scrape(_request: Request) -> Response:
        await gauges(replace(core, db=db))
        return Response(generate_latest(core.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", scrape)]


async def gauges(core: Core) -> None:
    """Bring the gauges up to date from the database: every process that is scraped tells the same truth."""
    now = datetime.fromtimestamp(core.clock(), UTC)
    core.metrics.deliveries.clear()
    core.metrics.oldest.clear()
    oldest: dict[str, datetime] = {}
    for one in await core.db.run(search.reading, search.open_deliveries):
        core.metrics.deliveries.labels(one.destination, one.state).set(one.n)
        if one.state != DeliveryState.DEAD:  # dead letters wait for people, and their number says enough
            oldest[one.destination] = min(oldest.get(one.destination, one.oldest), one.oldest)
    for name, since in oldest.items():
        core.metrics.oldest.labels(name).set(max(0.0, (now - since).total_seconds()))
    (last,) = await core.db.fetch("last_sweep")
    core.metrics.swept_until.set(last["to_at"].timestamp() if last["to_at"] else 0)
    (gap,) = await core.db.fetch("open_gap")
    core.metrics.gap.set((gap["gap_to"] - gap["gap_from"]).total_seconds() if gap["gap_from"] else 0)
    await reconcile.gauges(core.db, core.metrics)
    if TAX in core.router.kinds:
        held.show(await core.db.run(search.reading, held.held, now), core.metrics)
    for row in await core.db.fetch("gauge_paused", now):
        core.metrics.paused.labels(row["name"]).set(row["paused"])
        core.metrics.circuit.labels(row["name"]).set(row["circuit_open"])
        core.metrics.share.labels(row["name"]).set(row["share"])


@dataclass(frozen=True, slots=True)
class Built:
    """A destination that can work, or why it cannot."""

    name: str
    kind: Kind
    destination: Destination | LogDestination | None
    problem: str | None = None


def build(core: Core, source: Source) -> tuple[list[Built], dict[str, Any]]:
    """Every enabled destination, and what mappings see as `settings`. A misconfigured one does not stop the rest."""
    found: list[Built] = []
    seen: dict[str, Any] = {"timezone": core.settings.timezone}
    for name, kind in core.router.kinds.items():
        try:
            settings = config.read(table("avalara" if name == TAX else name))
            tax = make_draft_tax(core, settings) if name == TAX else None
        except ConfigError as error:
            found.append(Built(name, kind, None, "; ".join(error.problems)))
            continue
        if tax is not None:
            found.append(Built(name, kind, with_policy(tax, core.settings)))
            continue
        seen |= {f"{name}_{key}": value for key, value in settings.model_dump(mode="json").items() if _is_plain(value)}
        create = importlib.import_module(f"connectors.{name}.destination").create
        # The fetcher reads through the same source as the mirror: one rate limit towards Stripe.
        destination = create(settings, source if name == FETCHER else make_limit(core, name, settings))
        found.append(Built(name, kind, with_policy(destination, core.settings)))
    return found, seen


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | bool) and not (isinstance(value, str) and set(value) == {"*"})


def with_policy(destination: Any, settings: Settings) -> Any:
    """The hub's own limits over a connector's defaults."""
    policy: Policy = destination.policy
    changed = replace(policy, budget=settings.retry_budget_days * 86400)
    if settings.unknown_wait_seconds is not None:
        changed = replace(changed, unknown_wait=settings.unknown_wait_seconds)
    destination.policy = changed
    return destination


def make_sweeper(core: Core, listing: Listing) -> Sweeper:
    """What looks for missed webhooks."""
    return Sweeper(
        core.db,
        listing,
        core.router,
        core.metrics,
        core.clock,
        overlap=timedelta(seconds=core.settings.sweep_overlap_seconds),
        first=timedelta(hours=core.settings.sweep_first_hours),
    )


@asynccontextmanager
async def backfill(core: Core, patience: Patience) -> AsyncIterator[Backfill]:
    """What brings objects in from Stripe's lists, with a connection to Stripe of its own."""
    source = make_source(core)
    mapped = frozenset(m.object for m in core.mappings.all())
    try:
        yield Backfill(core.db, source, core.router, core.clock, mapped, patience)
    finally:
        await source.close()


def make_pruner(core: Core) -> Pruner | None:
    """What removes settled history, or None if it is kept for ever."""
    days = core.settings.retention_days
    return Pruner(core.db, core.metrics, core.clock, timedelta(days=days)) if days else None


@asynccontextmanager
async def sweeper(core: Core) -> AsyncIterator[Sweeper]:
    """A sweeper with a connection to Stripe of its own: for the command."""
    source = make_source(core)
    try:
        yield make_sweeper(core, source)
    finally:
        await source.close()


def make_source(core: Core) -> Any:
    """Stripe, to be read from. No network."""
    settings = config.read(table(FETCHER))
    return importlib.import_module("connectors.stripe.source").create(settings, make_limit(core, FETCHER, settings))


def make_writer(core: Core) -> Any:
    """Stripe, to be written in (`hub.destination.SourceWriter`). No network. Raises `ConfigError`."""
    settings = config.read(table(FETCHER))
    return importlib.import_module("connectors.stripe.writer").create(settings, make_limit(core, FETCHER, settings))


def make_draft_tax(core: Core, settings: VendorSettings) -> Destination:
    """The destination `tax`, which is AvaTax's limit's and Stripe's."""
    create = importlib.import_module("connectors.avalara.calculate").create
    made: Destination = create(settings, make_writer(core), make_limit(core, "avalara", settings), core.clock)
    return made


def make_limit(core: Core, name: str, settings: VendorSettings) -> Limit:
    """How fast a vendor may be called by all processes together."""
    return Turns(core.db, name, getattr(settings, "rate", None), core.clock)


async def make_workers(
    core: Core, *, seed: int | None = None, beside: Sequence[Beside] = ()
) -> tuple[Workers, Callable[[], Any]]:
    """A worker per destination that can work; the others are marked paused with the reason. Second: how to close
    them. Raises one of `UNAVAILABLE`, and then has left nothing open.
    """
    source = make_source(core)
    built, seen = build(core, source)

    async def close() -> None:
        for one in built:
            if one.destination is not None:
                await one.destination.close()
        await source.close()

    try:
        for one in built:
            await core.db.fetch("register_destination", one.name, one.kind, one.problem)
    except UNAVAILABLE:
        await close()
        raise
    rng = random.Random(seed)  # noqa: S311 - jitter, not a secret
    settle = Settler(core.db, core.clock)
    mirror = Mirror(core.db, source, core.clock, core.metrics)
    workers: list[Worker] = []
    missing = sorted(core.mappings.settings - seen.keys())
    for one in built:
        if one.destination is None:
            continue
        if one.kind == "log":
            carrier: Deliverer | LogDeliverer = LogDeliverer(
                cast(LogDestination, one.destination), settle, core.clock, rng, core.metrics
            )
        else:
            composer = Composer(one.name, core.mappings, mirror, core.db, dict.fromkeys(missing) | seen)
            carrier = Deliverer(
                cast(Destination, one.destination),
                core.mappings,
                composer,
                core.router,
                settle,
                core.clock,
                rng,
                core.metrics,
            )
        workers.append(Worker(carrier, core.db, core.clock, core.settings.poll_seconds))

    every = core.settings.sweep_minutes * 60
    # Beside the deliveries, and through the same source: one rate limit towards Stripe.
    sweeping = (partial(make_sweeper(core, source).on_schedule, every),) if every else ()
    pruner = make_pruner(core)
    beside = (*sweeping, *((pruner.on_schedule,) if pruner else ()), *beside)
    return Workers(workers, core.db, beside), close

"""Settings: environment variables `HUB_*`, and `hub.toml` below them. Checked before start, all problems at once.

`VendorSettings` is what each connector derives its own table from (`connectors/<vendor>/settings.py`).
"""

from __future__ import annotations

import ipaddress
import os
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from hub.errors import ConfigError

TOML_FILE = "hub.toml"


def _base_url(value: str) -> str:
    """An address without trailing slash; plain http is for loopback only (test doubles, proxies on this machine)."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{value!r} is not an http(s) address, e.g. https://api.example.com")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(
            f"plain http is allowed only to this machine (127.0.0.1, ::1, localhost), not {parts.hostname}"
        )
    if parts.query or parts.fragment or parts.username:
        raise ValueError("an address here has no query, fragment or user name")
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


BaseUrl = Annotated[str, AfterValidator(_base_url)]


class VendorSettings(BaseSettings):
    """Base of every settings table. Derive with `model_config = SettingsConfigDict(env_prefix="HUB_<VENDOR>_")`.

    Every field has a `description` (it is the help text of `hub config`); secrets are `SecretStr`.
    In `hub.toml` the names are the same in lower case without `HUB_`: `stripe_api_key = "..."`.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, validate_default=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, _Toml(settings_cls))


class _Toml(TomlConfigSettingsSource):
    """`hub.toml`, read with the table's own prefix taken off."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, TOML_FILE)

    def __call__(self) -> dict[str, Any]:
        prefix = str(self.settings_cls.model_config.get("env_prefix", "")).lower().removeprefix("hub_")
        fields = self.settings_cls.model_fields
        return {k.removeprefix(prefix): v for k, v in self.toml_data.items() if k.removeprefix(prefix) in fields}


class Settings(VendorSettings):
    """The hub's own settings. Each vendor's are in `connectors/<vendor>/settings.py`."""

    model_config = SettingsConfigDict(env_prefix="HUB_", extra="ignore", env_ignore_empty=True, validate_default=True)

    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 15+ address; without it the hub starts an embedded PostgreSQL in HUB_DATA_DIR."
    )
    data_dir: Path = Field(Path(".hub"), description="Folder of the embedded database and of generated local secrets.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    worker_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which `hub work` answers /healthz, /readyz and /metrics; none if unset.",
    )
    api_token: SecretStr | None = Field(
        None, description="Bearer token of /api/v1 (at least 24 characters; `openssl rand -hex 24`). Required to serve."
    )
    sandbox_url: BaseUrl | None = Field(
        None, description="A running sandbox; every vendor that is not configured otherwise is looked for there."
    )
    destinations: Annotated[tuple[str, ...], NoDecode] = Field(
        ("salesforce", "netsuite", "avalara", "s3_lake"), description="Enabled destinations, comma-separated."
    )
    mappings_dir: Path | None = Field(
        None, description="Folder of your mappings; default: the ones that come with the hub."
    )
    timezone: str = Field("UTC", description="Time zone of the books (IANA name): the day an invoice is dated on.")
    coalesce_seconds: float = Field(
        1.0, ge=0, le=60, description="How long a CRM update waits for more changes of the same object."
    )
    max_body_bytes: int = Field(2**20, ge=1024, le=64 * 2**20, description="Largest webhook body accepted, in bytes.")
    max_connections: int = Field(
        4096,
        ge=16,
        le=60_000,
        description="Most connections at once; above it those make room that have kept the hub waiting longest.",
    )
    head_seconds: float = Field(
        10.0, gt=0, le=300, description="How long a client may take to send a request's head, in seconds."
    )
    request_seconds: float = Field(
        30.0,
        gt=0,
        le=600,
        description="How long it may take for the rest, and to read its answer; a webhook's body has 10 s in any case.",
    )
    shutdown_seconds: float = Field(20.0, ge=0, description="On SIGTERM: time to finish what is in flight.")
    poll_seconds: float = Field(
        2.0, gt=0, le=60, description="Safety net: how often idle workers look without being woken."
    )
    retry_budget_days: float = Field(
        3.0, gt=0, description="How long a failing delivery is tried before it is a dead letter."
    )
    sweep_minutes: float = Field(
        15.0,
        ge=0,
        le=1440,
        description="How often workers look for missed webhooks in Stripe's list of events; 0: only `hub sweep` does.",
    )
    sweep_overlap_seconds: int = Field(
        3600,
        ge=0,
        le=7 * 86400,
        description="How far before the end of the last sweep the next one begins: an event may become visible late.",
    )
    sweep_first_hours: float = Field(
        72.0, gt=0, le=720, description="How far back the very first sweep looks; Stripe lists 30 days."
    )
    reconcile_hours: float = Field(
        24.0,
        ge=0,
        le=8760,
        description="How often workers compare NetSuite and AvaTax with Stripe; 0: only `hub reconcile` does.",
    )
    reconcile_days: int = Field(
        35, ge=1, le=3660, description="How many days back a reconciliation begins, unless `--since` says otherwise."
    )
    reconcile_grace_minutes: float = Field(
        15.0, ge=0, le=10_080, description="What happened in Stripe less long ago is under way, not a difference."
    )
    retention_days: float = Field(
        400.0,
        ge=0,
        le=36_500,
        description="How long settled history is kept: bodies, deliveries, attempts. At least 30; 0: for ever.",
    )
    unknown_wait_seconds: float | None = Field(
        None,
        ge=0,
        description="Overrides every destination's wait before an unknown outcome is looked up (demo, tests).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("destinations", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(p.strip() for p in value.split(",") if p.strip()) if isinstance(value, str) else value

    @field_validator("retention_days")
    @classmethod
    def _not_too_short(cls, value: float) -> float:
        if 0 < value < 30:
            raise ValueError("is less than 30, which is how long Stripe lists events; 0 keeps everything")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value!r} is not an IANA time zone, e.g. Europe/Berlin") from error
        return value

    @field_validator("api_token")
    @classmethod
    def _long_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 24:
            raise ValueError("is shorter than 24 characters; make one with `openssl rand -hex 24`")
        return value


def where_set(table: type[VendorSettings]) -> dict[str, str]:
    """Field -> value as text, for what is set in the environment or in `hub.toml`. Callers mask what is secret."""
    prefix = str(table.model_config.get("env_prefix", ""))
    found = {name: str(value) for name, value in _Toml(table)().items()}
    for name in table.model_fields:
        value = os.environ.get(f"{prefix}{name}".upper())
        if value:
            found[name] = value
    return found


Table = TypeVar("Table", bound=VendorSettings)


def problems_of(table: type[VendorSettings], error: ValidationError) -> list[str]:
    """One sentence per problem, naming the environment variable. Values are never repeated: one may be a secret."""
    prefix = str(table.model_config.get("env_prefix", ""))
    found = []
    for item in error.errors(include_url=False, include_input=False):
        name = (prefix + "_".join(str(p) for p in item["loc"])).upper() if item["loc"] else ""
        text = item["msg"].removeprefix("Value error, ")
        found.append(f"{name}: {text}" if name else text)
    return found


def read(table: type[Table]) -> Table:
    """One settings table. Raises `ConfigError` with all its problems."""
    try:
        return table()
    except ValidationError as error:
        raise ConfigError(problems_of(table, error)) from error

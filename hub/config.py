"""Settings: environment variables `HUB_*`, and `hub.toml` below them. Checked before start, all problems at once.

`VendorSettings` is what each connector derives its own table from (`connectors/<vendor>/settings.py`).
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

TOML_FILE = "hub.toml"


def _base_url(value: str) -> str:
    """An address without trailing slash; plain http is for loopback only (test doubles, proxies on this machine)."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{value!r} is not an http(s) address, e.g. https://api.example.com")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"plain http is allowed only to this machine (127.0.0.1, ::1, localhost), not {parts.hostname}")
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

"""Settings: where they come from, and that everything wrong is said at once and nothing secret with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub import app, config
from hub.commands.check import settings_table
from hub.config import BaseUrl, Settings, VendorSettings
from hub.destination import Policy
from hub.errors import ConfigError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs the tests: neither variables nor a file."""
    for name in [n for n in os.environ if n.startswith("HUB_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hub.toml").write_text('port = 9001\nhost = "127.0.0.2"\ndestinations = "netsuite, avalara"\n')
    monkeypatch.setenv("HUB_PORT", "9002")
    settings = config.read(Settings)
    assert (settings.port, settings.host, settings.destinations) == (9002, "127.0.0.2", ("netsuite", "avalara"))


def test_the_file_has_the_vendors_settings_too() -> None:
    Path("hub.toml").write_text('stripe_api_key = "sk_test_1"\nstripe_webhook_secrets = "whsec_1,whsec_2"\n')
    stripe = config.read(app.table("stripe"))
    assert [s.get_secret_value() for s in getattr(stripe, "webhook_secrets", ())] == ["whsec_1", "whsec_2"]


def test_all_problems_are_said_at_once_and_no_secret_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HUB_PORT": "70000",
        "HUB_TIMEZONE": "Mars/Olympus",
        "HUB_DESTINATIONS": "netsuite,sap",
        "HUB_API_TOKEN": "too-short-secret",
        "HUB_STRIPE_API_KEY": "sk_live_secret",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        app.read_settings(serving=True)
    said = "\n".join(refused.value.problems)
    for word in (
        "HUB_PORT",
        "HUB_TIMEZONE",
        "'sap'",
        "HUB_API_TOKEN",
        "HUB_STRIPE_WEBHOOK_SECRETS",
        "HUB_STRIPE_LIVEMODE",
    ):
        assert word in said, said
    assert "secret" not in said.replace("signing secret", "").lower().replace("webhook_secrets", "")


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("https://api.example.com", True),
        ("http://127.0.0.1:9700/stripe", True),
        ("http://[::1]:9700", True),
        ("http://localhost:1", True),
        ("http://api.example.com", False),
        ("ftp://127.0.0.1", False),
        ("https://user@api.example.com", False),
        ("api.example.com", False),
    ],
)
def test_plain_http_is_for_this_machine_only(address: str, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Table(VendorSettings):
        base_url: BaseUrl

    monkeypatch.setenv("BASE_URL", address)
    if good:
        assert config.read(Table).base_url == address
    else:
        with pytest.raises(ConfigError):
            config.read(Table)


def test_the_table_shows_what_is_set_wherever_it_is_set_and_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hub.toml").write_text('netsuite_account = "1234567"\nstripe_api_key = "sk_test_secret"\n')
    monkeypatch.setenv("HUB_API_TOKEN", "x" * 24)
    rows = {row["name"]: row for row in settings_table()}
    assert rows["HUB_NETSUITE_ACCOUNT"]["value"] == "1234567"
    assert rows["HUB_STRIPE_API_KEY"]["value"] == rows["HUB_API_TOKEN"]["value"] == "set"
    assert rows["HUB_PORT"] == {
        "name": "HUB_PORT",
        "type": "int",
        "default": "8080",
        "value": "",
        "help": "Port to listen on; 0 takes a free one.",
    }


def test_the_hubs_own_wait_and_budget_go_before_a_connectors() -> None:
    class Vendor:
        policy = Policy("ledger", unknown_wait=900.0)

    kept = app.with_policy(Vendor(), Settings(retry_budget_days=2)).policy
    assert (kept.unknown_wait, kept.budget) == (900.0, 2 * 86400.0)
    assert app.with_policy(Vendor(), Settings(unknown_wait_seconds=7)).policy.unknown_wait == 7.0

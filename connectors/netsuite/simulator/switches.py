"""What an administrator has switched on in the account, and what the role may do. Set by a test, never over REST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Access = Literal["none", "view"]


@dataclass(frozen=True, slots=True)
class Switches:
    """The account's features and preferences. The defaults are those of a fresh account without tax features."""

    suitetax: bool = False
    """SuiteTax. Without it the REST service has no tax fields at all (NetSuite help, "Invoice" record in REST)."""
    avatax_bundle: bool = False
    """Avalara's bundle is installed: it taxes every invoice and credit memo once more, unless
    `custbody_ava_disable_tax_calculation` is true (a field of the bundle, seen in other integrations' payloads)."""
    date_outside_period: Literal["Allow", "Disallow"] = "Disallow"
    """Accounting preference "Allow Transaction Date Outside of the Posting Period"."""
    closed_period_default: Literal["First Open Period", "Current Period"] = "First Open Period"
    """Accounting preference "Default Posting Period When Transaction Date in Closed Period"; counts only with Allow."""
    custom_fields: Mapping[str, str] = field(default_factory=dict)
    """Custom fields an administrator has added: script id -> type of `schema` (`text`, `bool`, `date`, `money`).
    `custbody_` fields are on every transaction, `custcol_` on item lines, `custentity_` on customers."""
    administrator: bool = False
    """Whether the role is the administrator's, who alone may read the governance limits."""
    denied: Mapping[str, Access] = field(default_factory=dict)
    """Record type -> what is left of the role's permission for it."""

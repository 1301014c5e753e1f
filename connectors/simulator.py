"""What every vendor simulator offers the sandbox. The rules of the vendor live in `connectors/<vendor>/simulator*`.

A simulator is a strict ASGI application: an unknown path, method, header, field or parameter is the vendor's own error,
never a 200. It shares no code that knows the vendor's rules with the connector. Request recording and fault injection
are not its business: `connectors.sandbox` wraps every simulator with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from starlette.types import ASGIApp

Clock = Callable[[], float]
"""Seconds since the epoch. Passed in: a simulator never asks the operating system for the time."""


class Simulator(Protocol):
    """Constructed as `<Vendor>Simulator(seed=7, clock=time.time)`; ids are drawn from the seed."""

    app: ASGIApp
    """Served under `<sandbox>/<vendor>`; paths inside are the vendor's own (`/v1/invoices`, `/services/data/...`)."""

    def reset(self) -> None:
        """Forget everything; start again from the seed."""
        ...

    def state(self) -> dict[str, Any]:
        """All business records as plain JSON, for assertions and tie-outs: `{"<kind>": [{...}, ...]}`. Money as strings
        or integers as the vendor's API shows it."""
        ...

    def refusal(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body with which this vendor refuses: kind `expired` (session/token no longer valid) or
        `limit` (too many requests). Used by fault injection."""
        ...

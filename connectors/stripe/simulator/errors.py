"""How Stripe says no. Shapes: docs.stripe.com/api/errors; messages follow the vendor's wording closely enough to
recognise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.stripe.simulator.values import Obj


class StripeError(Exception):
    """A refusal: HTTP status, the `{"error": {...}}` body, and headers beyond the usual ones."""

    def __init__(self, status: int, body: Obj, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body["error"].get("message", ""))
        self.status, self.body, self.headers = status, body, dict(headers or {})

    @property
    def code(self) -> str | None:
        """The stable `error.code`, if this refusal has one."""
        code: str | None = self.body["error"].get("code")
        return code


def refused(
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    status: int = 400,
    kind: str = "invalid_request_error",
) -> StripeError:
    """An error of type `kind` (default `invalid_request_error`)."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        error["code"] = code
        error["doc_url"] = "https://stripe.com/docs/error-codes/" + code.replace("_", "-")
    if param is not None:
        error["param"] = param
    return StripeError(status, {"error": error})


def no_such(kind: str, object_id: str, param: str = "id") -> StripeError:
    """The object does not exist: 404 for the one in the path (`param` is `id`), 400 for one named in a parameter."""
    name = kind.rsplit(".", 1)[-1].replace("_", " ")
    return refused(
        f"No such {name}: '{object_id}'", param=param, code="resource_missing", status=404 if param == "id" else 400
    )


def not_simulated(param: str) -> StripeError:
    """Stripe knows it, this simulator does not: said aloud rather than ignored."""
    return refused(f"The simulator does not model {param}.", param=param, code="not_simulated")

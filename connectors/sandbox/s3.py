"""S3 for the sandbox: moto's, behind the same face as the other simulators.

moto keeps its buckets in module state: one `S3Simulator` per process at a time. It takes two seconds to import, so it
is loaded by the first request or question. Not like the real S3 (also listed in README.md): signatures and checksums
are not verified, and it never answers 409 or 503 by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from a2wsgi import WSGIMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.s3_lake.sandbox_env import BUCKET
from connectors.sandbox import lake
from connectors.simulator import Clock

_ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
_REFUSALS = {
    "limit": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
}


class S3Simulator:
    """moto's S3 with one bucket, `sandbox_env.BUCKET`. The clock is the operating system's: moto takes no other."""

    app: ASGIApp

    def __init__(self, *, seed: int = 7, clock: Clock) -> None:  # noqa: ARG002 - the common constructor
        self._wsgi: Any = None
        self._lock = threading.Lock()
        # One worker: moto is not made for threads, and one is enough for the lake.
        self._asgi: Any = WSGIMiddleware(self._call, workers=1)
        self.app = self._unmounted
        self._ids: dict[tuple[str, str, str], list[str]] = {}

    def reset(self) -> None:
        """Forget all buckets; make the one bucket again."""
        self._ids.clear()
        if self._wsgi is not None:
            self._fresh()

    def state(self) -> dict[str, Any]:
        """`objects` (bucket, key, size, metadata, rows), `buckets`, and `lake`: objects, rows and distinct events in
        all Parquet objects together."""
        self._load()
        objects, events = [], []
        for bucket in self._backend().buckets.values():
            for key in bucket.keys.values():
                shown = {"bucket": bucket.name, "key": key.name, "size": key.size, "metadata": _metadata(key.metadata)}
                if key.name.endswith(".parquet"):
                    ids = self._event_ids((bucket.name, key.name, key.etag), key.value)
                    shown["rows"] = len(ids)
                    events.append(ids)
                objects.append(shown)
        objects.sort(key=lambda shown: (shown["bucket"], shown["key"]))
        return {"buckets": sorted(self._backend().buckets), "objects": objects, "lake": _summary(events)}

    def refusal(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """503 SlowDown or 400 ExpiredToken, as in the S3 API Reference's list of error responses."""
        status, code, message = _REFUSALS[kind]
        return status, {"content-type": "application/xml"}, _ERROR.format(code=code, message=message).encode()

    async def _unmounted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """moto takes the first part of the path for the bucket, so it must not see where it is mounted."""
        root = scope.get("root_path", "")
        # Asked for by boto3 on every PUT; uvicorn has already answered it, and moto would only be confused.
        headers = [pair for pair in scope["headers"] if pair[0] != b"expect"]
        path = scope["path"].removeprefix(root) or "/"
        raw = scope["raw_path"].removeprefix(root.encode()) or b"/"
        await self._asgi({**scope, "root_path": "", "path": path, "raw_path": raw, "headers": headers}, receive, send)

    def _call(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self._load()
        # WSGI knows only the decoded path; moto would decode it again, and `%41` in a key become `A`.
        environ["RAW_URI"] = environ["asgi.scope"]["raw_path"].decode("latin-1")
        answer: Iterable[bytes] = self._wsgi(environ, start_response)
        return answer

    def _load(self) -> None:
        with self._lock:
            if self._wsgi is None:
                from moto.moto_server.werkzeug_app import create_backend_app

                self._wsgi = create_backend_app("s3")
                self._fresh()

    def _fresh(self) -> None:
        self._backend().reset()
        self._backend().create_bucket(BUCKET, "us-east-1")

    @staticmethod
    def _backend() -> Any:
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def _event_ids(self, version: tuple[str, str, str], content: bytes) -> list[str]:
        """Objects never change, so each is decoded once."""
        if version not in self._ids:
            self._ids[version] = lake.event_ids(content)
        return self._ids[version]


def _metadata(headers: Any) -> dict[str, str]:
    """User metadata, without the system headers moto keeps beside it."""
    user = "x-amz-meta-"
    return {str(k).lower().removeprefix(user): str(v) for k, v in headers.items() if str(k).lower().startswith(user)}


def _summary(events: list[list[str]]) -> dict[str, int]:
    return {
        "objects": len(events),
        "rows": sum(map(len, events)),
        "events": len({event for ids in events for event in ids}),
    }

"""The wrapper round one vendor: record the request, let a fault happen to it, or hand it on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from starlette.types import Message, Receive, Scope, Send

from connectors.sandbox.faults import Action, Faults
from connectors.sandbox.recorder import Recorded, Recorder
from connectors.simulator import Clock, Simulator

_HTML = b"<!DOCTYPE html><html><head><title>Unavailable</title></head><body><h1>Down for maintenance</h1></body></html>"
_HTML_HEADERS = (("content-type", "text/html; charset=utf-8"),)
_REFUSALS = ("limit", "expired")


class Door:
    """ASGI application for one vendor under `/<vendor>`.

    The vendor sees itself mounted (`root_path`), so the addresses it builds are the real ones. Must be called by
    uvicorn directly, with nothing between that wraps `send`: closing a connection needs its transport.
    """

    def __init__(
        self,
        vendor: str,
        simulator: Simulator,
        recorder: Recorder,
        faults: Faults,
        clock: Clock,
        *,
        timer: Clock = time.perf_counter,  # not the loop's time: uvloop's moves once per turn, in milliseconds
    ) -> None:
        self._vendor, self._simulator = vendor, simulator
        self._recorder, self._faults, self._clock, self._timer = recorder, faults, clock, timer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]).removeprefix(f"/{self._vendor}")
        method = str(scope["method"])
        began = self._timer()
        query, headers = scope["query_string"], scope["headers"]
        seen = Recorded(self._vendor, method, path, query, headers, self._clock(), concurrency=1)
        self._recorder.begin(seen)
        try:
            verdict = self._faults.decide(self._vendor, method, path)
            seen.faults = verdict.fault_ids
            if verdict.delay_ms:
                # The request is here whole before it is slow: a client that gives up does not undo it.
                receive = await _received(receive)
                await asyncio.sleep(verdict.delay_ms / 1000)
            inner = {**scope, "root_path": f"{scope.get('root_path', '')}/{self._vendor}"}
            await self._act(verdict.action, seen, inner, receive, send)
        finally:
            self._recorder.end(seen, self._timer() - began)

    async def _act(self, action: Action | None, seen: Recorded, scope: Scope, receive: Receive, send: Send) -> None:
        kind = action.kind if action else "none"
        if kind == "hold":
            whole = await _received(receive)
            if not await self._held(seen, receive):
                return
            action, receive = None, whole
        if kind == "hold_reply":
            await self._hold_reply(seen, scope, receive, send)
            return
        if action is None or kind.startswith("lost_reply"):
            seen.applied = True
            if action is None:
                await self._simulator.app(scope, receive, _noting(seen, send))
                return
            await self._simulator.app(scope, receive, _swallow)
        if kind in ("drop", "lost_reply"):
            await _hang_up(receive, send)
            return
        assert action is not None
        if not seen.applied:
            # Answered before its body is read, a client with `Expect: 100-continue` (boto3) keeps the body to itself,
            # and the server takes its next request on this connection for that body.
            await _drain(receive)
        if kind in _REFUSALS:
            status, headers, body = self._simulator.refusal(kind)
            await _answer(seen, send, status, headers.items(), body)
        elif kind == "status":
            body = action.body or b""
            guessed = () if any(name.lower() == "content-type" for name, _ in action.headers) else _guess(body)
            await _answer(seen, send, action.status or 500, (*action.headers, *guessed), body)
        elif kind in ("html", "lost_reply_html"):
            await _answer(seen, send, action.status or 503, _HTML_HEADERS, action.body or _HTML)
        else:
            body = action.body or b""
            await _answer(seen, send, 500, _guess(body), body)

    async def _hold_reply(self, seen: Recorded, scope: Scope, receive: Receive, send: Send) -> None:
        """The vendor carries it out, and its answer waits: a client that ends meanwhile never hears it."""
        said: list[Message] = []

        async def keep(message: Message) -> None:
            said.append(message)

        seen.applied = True
        await self._simulator.app(scope, await _received(receive), keep)
        if await self._held(seen, receive):
            for message in said:
                await _noting(seen, send)(message)

    async def _held(self, seen: Recorded, receive: Receive) -> bool:
        """Wait until the faults are deleted, or for as long as the client does. Whether it is still there."""
        seen.held = True
        released = asyncio.ensure_future(self._faults.released.wait())
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((released, gone), return_when=asyncio.FIRST_COMPLETED)
            return not gone.done()
        finally:
            seen.held = False
            released.cancel()
            gone.cancel()


def _guess(body: bytes) -> tuple[tuple[str, str], ...]:
    return (("content-type", "application/json" if body[:1] in (b"{", b"[") else "text/plain; charset=utf-8"),)


def _noting(seen: Recorded, send: Send) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
        await send(message)

    return noting


async def _received(receive: Receive) -> Receive:
    """The whole request, taken in now; to be received once more from memory."""
    messages: list[Message] = []
    while not messages or messages[-1].get("more_body"):
        messages.append(await receive())
    waiting = iter(messages)

    async def again() -> Message:
        return next(waiting, None) or await receive()

    return again


async def _gone(receive: Receive) -> None:
    """Return when the client has gone. It must have been heard out before: what it still sends would be lost here."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _swallow(message: Message) -> None:
    """The vendor has answered, and nobody hears it."""


async def _answer(seen: Recorded, send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    seen.status = status
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    named = {name for name, _ in pairs}
    if b"content-length" not in named:
        pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _drain(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


async def _hang_up(receive: Receive, send: Send) -> None:
    """Close the connection without a byte of reply, as a broken proxy does.

    ASGI knows no such thing: returning without an answer makes the server send a 500. uvicorn's `send` is a method of
    the object that holds the transport. Waiting for the disconnect afterwards keeps uvicorn from answering after all.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("the faults drop and lost_reply need the sandbox to be served by uvicorn itself")
    transport.abort()
    await _gone(receive)

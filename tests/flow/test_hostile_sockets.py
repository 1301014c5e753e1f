"""A real `hub serve`, and clients that are slow, silent, half-open, enormous or wrong, while webhooks come as ever.

The limits are small here, so that nothing has to be waited for long; the only times are how long is waited at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from hub.db import Embedded
from tests.flow import stack
from tests.flow.hostile import MARKS, TOKEN, Line, Served, event, lines, serving, signed, until

MOST_CONNECTIONS = 220
LIMITS = {
    "HUB_MAX_CONNECTIONS": str(MOST_CONNECTIONS),
    "HUB_HEAD_SECONDS": "1",
    "HUB_REQUEST_SECONDS": "2",
    "HUB_MAX_BODY_BYTES": "65536",
}


@pytest.fixture(scope="module")
def hub(postgres: Embedded, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One process for all tests here; each sends events of its own."""
    with asyncio.Runner() as runner:
        place = _hub(postgres, template, tmp_path_factory)
        yield runner.run(place.__aenter__())
        runner.run(place.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def _hub(postgres: Embedded, template: str, folders: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with (
        stack.database(postgres, template) as dsn,
        serving(dsn, folders.mktemp("served"), **LIMITS) as served,
    ):
        yield served
    assert [mark for mark in MARKS if mark in served.told()] == [], "all that was done here told nobody's secrets"


async def sends_events(hub: Served, name: str, count: int) -> None:
    """Webhooks one after the other, each on a connection of its own: all are acknowledged, and stored."""
    for n in range(count):
        async with lines(hub, 1) as (line,):
            await line.say(signed(event(f"evt_{name}_{n}")))
            assert (await line.answer())[0] == 200
    assert {f"evt_{name}_{n}" for n in range(count)} <= await hub.stored()


HEAD = b"POST /webhooks/stripe HTTP/1.1\r\nHost: hub\r\n"
SLOW = {
    "says_nothing": b"",
    "never_ends_its_head": HEAD + b"X-Slow: ",
    "only_line_breaks": b"GET /healthz HTTP/1.1\r\n\r\n\r\n",
    "never_ends_its_body": HEAD + b"Content-Length: 5000\r\n\r\n{",
    "never_ends_a_body_nobody_wants": b"GET /healthz HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{",
    "never_ends_its_chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
}
"""What is said at first; then a byte now and then, for ever."""


@pytest.mark.parametrize("way", SLOW)
async def test_more_slow_clients_than_there_may_be_connections_do_not_keep_a_webhook_out(hub: Served, way: str) -> None:
    before = await turned_away(hub, "full")
    async with lines(hub, MOST_CONNECTIONS + 10) as slow:
        for line in slow:
            await line.say(SLOW[way])
        what = {"says_nothing": b"", "only_line_breaks": b"\r\n"}.get(way, b"0")
        trickle = asyncio.gather(*(_trickle(line, what) for line in slow))
        await sends_events(hub, way, 12)
        assert await turned_away(hub, "full") >= before + 10, "there were never more than there may be"
        await asyncio.gather(*(line.closed() for line in slow))
        trickle.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trickle


async def _trickle(line: Line, what: bytes) -> None:
    while not line.writer.transport.is_closing():
        await asyncio.sleep(0.3)
        await line.say(what)


async def test_a_client_that_asks_and_does_not_read_is_cut_off(hub: Served) -> None:
    before = await turned_away(hub, "slow_reader")
    async with lines(hub, 1) as (line,):
        await line.say(signed(event("evt_large", more="x" * 60_000)))
        assert (await line.answer())[0] == 200
    ask = f"GET /api/v1/events/evt_large HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", hub.port))
        deaf.setblocking(False)
        await sends_events(hub, "unread", 3)

        async def cut_off() -> bool:
            # Ever more, for the system's own buffers hold some megabytes of answers before the hub notices.
            with contextlib.suppress(OSError):
                deaf.send(ask * 50)
            return await turned_away(hub, "slow_reader") > before

        await until(cut_off, hub)


async def turned_away(hub: Served, reason: str) -> float:
    """How many were, for this reason."""
    async with lines(hub, 1) as (line,):
        await line.say(b"GET /metrics HTTP/1.1\r\n\r\n")
        _, told = await line.answer()
    found = re.search(rb'^hub_turned_away_total\{reason="%b"\} (\S+)$' % reason.encode(), told, re.MULTILINE)
    return float(found[1]) if found else 0.0


WRONG = {
    "a header of 20 KB": (HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    "a head without an end": (HEAD + b"X: " + b"x" * 400_000, 431),
    "two hundred headers": (HEAD + b"X: x\r\n" * 200 + b"\r\n", 431),
    "an address of 10 KB": (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 414),
    "an address without an end": (b"GET /" + b"x" * 400_000, 431),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "another protocol": (HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}", 400),
    "two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400),
    "length and chunks": (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    "a wrong chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "tiny chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000, 400),
    "a trailer without an end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 400_000, 413),
    "a length beyond all": (HEAD + b"Content-Length: 99999999\r\n\r\n", 413),
    "a number too long": (HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    "more than it said": (HEAD + b"Content-Length: 2\r\n\r\n{}" + b"x" * 70_000, 400),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_request_that_is_wrong_is_answered_so_and_costs_nobody_else_anything(hub: Served, what: str) -> None:
    request, status = WRONG[what]
    async with lines(hub, 1) as (line,):
        await line.say(request)
        answered, body = await line.answer()
    assert answered == status
    assert (b'"upgrade"' in body) == (what == "another protocol"), "its body was not left out and then judged"
    await sends_events(hub, what.replace(" ", "_"), 1)


async def test_pipelined_webhooks_are_answered_in_order_also_if_garbage_follows(hub: Served) -> None:
    ids = [f"evt_pipe_{n}" for n in range(30)]
    body = event("evt_pipe_wrong")
    wrong = signed(body).replace(b"v1=", b"v1=0")
    async with lines(hub, 1) as (line,):
        await line.say(
            b"".join(signed(event(id_)) for id_ in ids) + wrong + signed(event("evt_pipe_last")) + b"\x00\r\n"
        )
        statuses = [(await line.answer())[0] for _ in range(len(ids) + 2)]
        assert statuses == [200] * len(ids) + [400, 200]
        assert await line.closed() == b""
    assert {*ids, "evt_pipe_last"} <= await hub.stored()
    assert "evt_pipe_wrong" not in await hub.stored()


async def test_too_many_pipelined_requests_end_the_connection_and_those_before_are_answered(hub: Served) -> None:
    async with lines(hub, 1) as (line,):
        await line.say(b"GET /healthz HTTP/1.1\r\n\r\n" * 5000)
        answered = (await line.closed()).count(b"HTTP/1.1 200")
    assert 0 < answered < 5000
    await sends_events(hub, "after_pipe", 1)


async def test_two_hundred_connections_at_once_that_each_send_an_event_are_all_served(hub: Served) -> None:
    await all_at_once(hub, 200)


async def all_at_once(served: Served, count: int) -> None:
    """So many connections are open together, then each sends an event: 200 to all, and all are stored."""
    async with lines(served, count) as opened:
        await asyncio.gather(*(line.say(signed(event(f"evt_{n}"))) for n, line in enumerate(opened)))
        answers = await asyncio.gather(*(line.answer() for line in opened))
    assert [status for status, _ in answers] == [200] * count
    assert await served.stored() >= {f"evt_{n}" for n in range(count)}


async def test_rare_but_right_ways_to_send_an_event_are_taken(hub: Served) -> None:
    async with lines(hub, 4) as (asking, old, chunked, slow):
        head, _, body = signed(event("evt_100"), "Expect: 100-continue").partition(b"\r\n\r\n")
        await asking.say(head + b"\r\n\r\n")
        assert await asking.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await asking.say(body)
        await old.say(signed(event("evt_old")).replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = signed(event("evt_chunks")).partition(b"\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if b"Content-Length" not in line)
        head += b"\r\nTransfer-Encoding: chunked\r\nTrailer: Stripe-Signature\r\n\r\n"
        for start in range(0, len(body), 7):
            part = body[start : start + 7]
            head += b"%x;a=b\r\n%b\r\n" % (len(part), part)
        await chunked.say(head + b"0\r\nStripe-Signature: t=1,v1=a trailer changes nothing\r\n\r\n")
        for byte in signed(event("evt_slow")):
            await slow.say(bytes([byte]))
        assert [(await line.answer())[0] for line in (asking, old, chunked, slow)] == [200] * 4
    assert {"evt_100", "evt_old", "evt_chunks", "evt_slow"} <= await hub.stored()

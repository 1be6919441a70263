"""Lines of bytes within limits."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.deadline import until

from mcr.daemon.control import limits
from mcr.daemon.control.api.decoding import read_json
from mcr.daemon.control.api.errors import RpcError
from mcr.daemon.control.api.stream import Budget, LineStream
from mcr.protocol.constants import ErrorCode


def serve(work: Coroutine[None, None, None]) -> None:
    """Run a coroutine."""
    asyncio.run(work)


class BudgetSpy(Budget):
    """A budget that tells how many bytes a single connection holds."""

    held_bytes = 0

    def hold(self, lines: LineStream, held_bytes: int) -> None:
        """Remember the number."""
        super().hold(lines, held_bytes)
        self.held_bytes = held_bytes


async def connected(
    outgoing: Budget | None = None, incoming: Budget | None = None
) -> tuple[LineStream, socket.socket, list[LineStream]]:
    """A connection, its other end, and the list of closed connections."""
    ours, theirs = socket.socketpair()
    gone: list[LineStream] = []
    incoming = incoming or Budget(limits.INPUT_BYTES)
    lines = LineStream(incoming, outgoing or Budget(limits.OUTPUT_BYTES), gone.append)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: lines, ours)
    theirs.setblocking(False)
    return lines, theirs, gone


def test_lines_before_the_end_are_served() -> None:
    """Even a last line without a line feed."""

    async def work() -> None:
        lines, theirs, _ = await connected()
        theirs.send(b"one\ntwo")
        theirs.shutdown(socket.SHUT_WR)
        assert [await lines.next(), await lines.next(), await lines.next()] == [
            b"one",
            b"two",
            None,
        ]
        lines.send([b"answer\n"])
        lines.close()
        assert await asyncio.get_running_loop().sock_recv(theirs, 100) == b"answer\n"
        theirs.close()

    serve(work())


def test_an_incomplete_line_has_a_time_limit() -> None:
    """More bytes do not extend it; completing the line does."""

    async def work() -> None:
        incoming = BudgetSpy(limits.INPUT_BYTES)
        lines, theirs, _ = await connected(incoming=incoming)
        began_s = time.monotonic()
        theirs.send(b"{")
        await until(lambda: incoming.held_bytes == 1)
        now_s = time.monotonic()
        assert lines.overdue(began_s + limits.HALF_LINE_S) is None
        theirs.send(b"}")
        await until(lambda: incoming.held_bytes == 2)
        assert "an incomplete line" in str(lines.overdue(now_s + limits.HALF_LINE_S))
        theirs.send(b"\n")
        assert await lines.next() == b"{}"
        assert lines.overdue(now_s + limits.HALF_LINE_S) is None
        lines.abort()
        theirs.close()

    serve(work())


def test_a_client_that_reads_nothing_is_overdue() -> None:
    """Reading a part of the output is enough."""

    async def work() -> None:
        lines, theirs, _ = await connected()
        lines.send([b"x" * (4 << 20)])
        assert lines.unread_bytes > 0
        now_s = time.monotonic()
        assert lines.overdue(now_s) is None
        assert "read nothing" in str(lines.overdue(now_s + limits.UNREAD_S + 1))
        assert theirs.recv(1 << 20)
        await until(lambda: lines.overdue(now_s + limits.UNREAD_S) is None)
        lines.abort()
        theirs.close()

    serve(work())


def test_unread_output_is_bounded() -> None:
    """Beyond the limit the connection is closed."""

    async def work() -> None:
        lines, theirs, gone = await connected()
        for _ in range(limits.UNREAD_BYTES // (1 << 20) + 2):
            lines.send([b"x" * (1 << 20)])
        await until(lambda: gone)
        assert gone == [lines]
        assert lines.unread_bytes == 0
        theirs.close()

    serve(work())


def test_a_budget_closes_the_largest_connection() -> None:
    """The others keep their bytes."""

    async def work() -> None:
        budget = Budget(8 << 20)
        small, one, gone_small = await connected(budget)
        large, other, gone_large = await connected(budget)
        small.send([b"x" * (2 << 20)])
        large.send([b"x" * (9 << 20)])
        await until(lambda: gone_large)
        assert gone_large == [large]
        assert gone_small == []
        small.abort()
        one.close()
        other.close()

    serve(work())


def test_pieces_arrive_in_order_at_a_slow_reader() -> None:
    """Whatever their sizes."""

    async def work() -> None:
        lines, theirs, _ = await connected()
        pieces = [bytes([n % 251]) * (n * 37 % 5000) for n in range(600)]
        lines.send(pieces)
        got = b""
        whole = b"".join(pieces)
        while len(got) < len(whole):
            got += await asyncio.get_running_loop().sock_recv(theirs, 10_000)
        assert got == whole
        lines.abort()
        theirs.close()

    serve(work())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", ErrorCode.PARSE),
        (b"nonsense", ErrorCode.PARSE),
        (b'{"a": NaN}', ErrorCode.PARSE),
        (b"\xff\xfe", ErrorCode.PARSE),
        (b'"\\ud800"', ErrorCode.PARSE),
        (b"[" * 100_000, ErrorCode.PARSE),
        (b"9" * 10_000_000, ErrorCode.PARSE),
        (b"[" + b"[]," * limits.LINE_VALUES + b"1]", ErrorCode.LIMIT),
    ],
)
def test_invalid_json_is_refused_promptly(line: bytes, code: ErrorCode) -> None:
    """However long or deep it is."""
    began_s = time.thread_time()
    with pytest.raises(RpcError) as caught:
        read_json(line)
    assert caught.value.code == code
    assert time.thread_time() - began_s < 0.5


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(line: bytes) -> None:
    """Any bytes are parsed, or raise an RpcError."""
    with contextlib.suppress(RpcError):
        read_json(line)


def test_nothing_is_written_to_a_closing_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Otherwise asyncio would log a warning if the kernel has already reported the end."""

    async def work() -> None:
        lines, theirs, gone = await connected()
        theirs.close()
        for _ in range(20):
            lines.send([b"x" * 10])
        while not gone:
            await asyncio.sleep(0)

    serve(work())
    assert not caplog.records

"""The channel to a worker: its start and its end."""

import asyncio
import socket
from typing import Any

import pytest

from mcr.daemon.control.workers.channel import WorkerChannel


@pytest.mark.parametrize("turns", range(4))
def test_a_channel_closed_at_once_ends_without_an_error(turns: int) -> None:
    """In whatever state of the event loop; both sides see the end."""
    faults: list[dict[str, Any]] = []
    lost: list[WorkerChannel] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        near, far = socket.socketpair()
        near.setblocking(False)
        far.settimeout(5)
        link = WorkerChannel(near, lambda _: None, lost.append)
        for _ in range(turns):
            await asyncio.sleep(0)
        link.close()
        assert lost == [link]
        assert await asyncio.to_thread(far.recv, 1) == b""
        far.close()

    asyncio.run(work())
    assert faults == []

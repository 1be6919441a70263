"""The end of a task that may not notice its cancellation."""

import asyncio
import contextlib
from typing import Any

_AGAIN_S = 0.2


async def end_task(task: "asyncio.Future[Any]") -> None:
    """Cancel a task until it has ended, and drop its result.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which libraries use, forgets a
    cancellation that comes together with its result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
    with contextlib.suppress(asyncio.CancelledError, Exception):
        task.result()

"""The records of a tap as a stream: the rings of all workers in one."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from .._native import TapReader
from ..errors import McrError
from ..time_limit import time_limit
from .names import Names
from .record import DatagramRecord, named

_POLL_S = 0.02
_PIECE = 512  # records of one worker at a time, so that none delays the others


class TapSource(Protocol):
    """What records, and where."""

    @property
    def readers(self) -> tuple[TapReader, ...]:
        """The readers of the rings, by the numbers of their workers."""

    @property
    def names(self) -> Names:
        """The names of what the records refer to."""

    def check(self) -> None:
        """Raise McrError once nothing more will be recorded."""

    def close(self) -> None:
        """End the tap. Idempotent."""


class TapStream:
    """What relays record of datagrams, for `for` and `async for`, and for one reader at a time.

    The relay never waits for the reader: what was not read before its ring was full is overwritten,
    and `lost` counts it. Rings are read every 20 ms.
    """

    def __init__(self, begin: Callable[[], TapSource]) -> None:
        """Created by `capture` and `trace`; `begin` starts the tap."""
        self._begin = begin
        self._source: TapSource | None = None
        self._records: deque[DatagramRecord] = deque()
        self._closed = False
        self._closing = threading.Lock()

    @property
    def lost(self) -> int:
        """The number of records that were overwritten before they were read, so far."""
        return 0 if self._source is None else sum(each.lost for each in self._source.readers)

    def begin(self) -> Self:
        """Start the tap, unless it has started; the `capture` and `trace` that block call this."""
        if self._source is None and not self._closed:
            source = self._begin()
            with self._closing:
                self._source = source
            if self._is_closed():  # meanwhile, by a task that was cancelled
                source.close()
        return self

    def read(self, timeout_s: float | None = None) -> DatagramRecord | None:
        """Wait for the next record; None if there is none within `timeout_s` seconds.

        Raises:
            McrError: the stream is closed, or its relay or daemon has ended.
        """
        limit_s = time_limit(timeout_s)
        ends_s = None if limit_s is None else time.monotonic() + limit_s
        while (record := self._take()) is None:
            left_s = _POLL_S if ends_s is None else ends_s - time.monotonic()
            if left_s <= 0:
                return None
            time.sleep(min(left_s, _POLL_S))
        return record

    def close(self) -> None:
        """End the tap. Idempotent."""
        with self._closing:
            self._closed = True
            source = self._source
        if source is not None:
            source.close()

    def __del__(self) -> None:
        """End the tap of a loop that was left."""
        self.close()

    def __iter__(self) -> Iterator[DatagramRecord]:
        """Yield records until the stream is closed."""
        while not self._closed:
            record = self.read(_POLL_S)
            if record is not None:
                yield record

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __aiter__(self) -> Self:
        """The stream itself."""
        return self

    async def __anext__(self) -> DatagramRecord:
        """Wait for the next record in the running event loop of asyncio."""
        import asyncio  # noqa: PLC0415 -- only who awaits needs it

        if self._source is None and not self._closed:
            await self.__aenter__()
        while not self._closed:
            record = self._take()
            if record is not None:
                return record
            await asyncio.sleep(_POLL_S)
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        """Start the tap, without blocking the event loop."""
        import asyncio  # noqa: PLC0415 -- as above

        try:
            return await asyncio.to_thread(self.begin)
        except BaseException:
            self.close()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        import asyncio  # noqa: PLC0415 -- as above

        # In a thread, as a change of the rules holds the relay's lock for its whole duration.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self.close))

    def _is_closed(self) -> bool:
        with self._closing:
            return self._closed

    def _take(self) -> DatagramRecord | None:
        if not self._records:
            self._fill()
        return self._records.popleft() if self._records else None

    def _fill(self) -> None:
        """Read what the rings have, in the order of time."""
        if self._closed or self._source is None:
            raise McrError("the stream is closed")
        names = self._source.names
        found = [
            named(record, worker, names)
            for worker, reader in enumerate(self._source.readers)
            for record in reader.read(_PIECE)
        ]
        if not found:
            self._source.check()
        self._records.extend(sorted(found, key=lambda record: record.time_ns))

"""`AsyncClosing`: what has a coroutine `close`, as a block of `async with`."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class AsyncClosing(ABC):
    """Is opened at the beginning of a block, and closed at its end."""

    @abstractmethod
    async def close(self) -> None:
        """Release all resources. Idempotent, also where opening has failed."""

    @abstractmethod
    async def _open(self) -> None:
        """Open it at the beginning of the block."""

    async def __aenter__(self) -> Self:
        """Open it; close it again where that fails or is cancelled."""
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

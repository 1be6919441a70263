"""The supervisor's event loop: calls handlers when their descriptors are ready."""

import selectors
from collections.abc import Callable
from typing import NamedTuple, Protocol

Handler = Callable[[], None]


class HasDescriptor(Protocol):
    """An object with a descriptor, such as a socket."""

    def fileno(self) -> int:
        """Return the descriptor."""


Source = int | HasDescriptor


class _Handlers(NamedTuple):
    on_read: Handler
    on_write: Handler | None


class Reactor:
    """The watched descriptors; only `wait` blocks."""

    def __init__(self) -> None:
        """Begin without descriptors."""
        self._selector = selectors.DefaultSelector()

    def watch(self, source: Source, on_read: Handler, on_write: Handler | None = None) -> None:
        """Call `on_read` whenever the source is readable, `on_write` while it is writable.

        For a source that is already watched, the new handlers replace the old ones.
        """
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if on_write else 0)
        handlers = _Handlers(on_read, on_write)
        try:
            self._selector.modify(source, events, handlers)
        except KeyError:
            self._selector.register(source, events, handlers)

    def forget(self, source: Source) -> None:
        """Stop watching a source; call this before its descriptor is closed."""
        self._selector.unregister(source)

    def wait(self, timeout_s: float) -> "Ready":
        """Wait until a source is ready, at most for the timeout."""
        return [(key, mask) for key, mask in self._selector.select(timeout_s)]

    def dispatch(self, ready: "Ready") -> None:
        """Call the handlers of the sources that are ready."""
        for key, mask in ready:
            # An earlier handler may have closed this source, and its number may be in use again.
            if self._selector.get_map().get(key.fd) is not key:
                continue
            handlers: _Handlers = key.data
            if mask & selectors.EVENT_READ:
                handlers.on_read()
            if (
                mask & selectors.EVENT_WRITE
                and handlers.on_write is not None
                and self._selector.get_map().get(key.fd) is key
            ):
                handlers.on_write()

    def close(self) -> None:
        """Close the selector; the sources stay open."""
        self._selector.close()


Ready = list[tuple[selectors.SelectorKey, int]]

"""The event loop of the supervisor: descriptors, and what to call when they are ready.

Knows neither processes nor messages.
"""

import selectors
from collections.abc import Callable
from typing import NamedTuple, Protocol

Handler = Callable[[], None]


class HasDescriptor(Protocol):
    """Whatever has a descriptor, such as a socket."""

    def fileno(self) -> int:
        """The descriptor."""


Source = int | HasDescriptor


class _Watch(NamedTuple):
    on_read: Handler
    on_write: Handler | None


class Reactor:
    """Descriptors that are watched; nothing here blocks but `wait`."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._selector = selectors.DefaultSelector()

    def watch(self, source: Source, on_read: Handler, on_write: Handler | None = None) -> None:
        """Call `on_read` whenever there is something to read, `on_write` while there is room.

        A source that is watched already gets the new handlers.
        """
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if on_write else 0)
        watch = _Watch(on_read, on_write)
        try:
            self._selector.modify(source, events, watch)
        except KeyError:
            self._selector.register(source, events, watch)

    def forget(self, source: Source) -> None:
        """Watch this no longer; call it before the descriptor is closed."""
        self._selector.unregister(source)

    def wait(self, timeout_s: float) -> "Ready":
        """Wait until something is ready, or for so long."""
        return [(key, mask) for key, mask in self._selector.select(timeout_s)]

    def dispatch(self, ready: "Ready") -> None:
        """Call the handlers of what is ready."""
        for key, mask in ready:
            # A handler before may have closed this one, and its number may be another's by now.
            if self._selector.get_map().get(key.fd) is not key:
                continue
            watch: _Watch = key.data
            if mask & selectors.EVENT_READ:
                watch.on_read()
            if (
                mask & selectors.EVENT_WRITE
                and watch.on_write is not None
                and self._selector.get_map().get(key.fd) is key
            ):
                watch.on_write()

    def close(self) -> None:
        """Let go of everything."""
        self._selector.close()


Ready = list[tuple[selectors.SelectorKey, int]]

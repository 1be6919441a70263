"""The desk at which workers request sockets of the broker; it can be closed for a while.

While it is closed, requests wait: during a handover no lease may change, and the workers of a new
version stay idle until they may have the sockets.
"""

import functools
import socket
from collections.abc import Callable

from .managed_process import ManagedWorker
from .native import Broker
from .reactor import Reactor


class BrokerDesk:
    """The broker's connections to the workers."""

    def __init__(
        self,
        broker: Broker,
        reactor: Reactor,
        on_fault: Callable[[ManagedWorker, str], None],
        on_end: Callable[[ManagedWorker], None],
    ) -> None:
        """Serve the broker's own notifications; no worker is connected yet.

        Args:
            broker: opens the sockets.
            reactor: watches the connections.
            on_fault: called with a worker that has violated the protocol, and how.
            on_end: called with a worker that has closed its connection.
        """
        self.broker = broker
        self._reactor = reactor
        self._on_fault = on_fault
        self._on_end = on_end
        self._watched: dict[int, socket.socket] = {}
        self._connected: dict[int, ManagedWorker] = {}
        self._is_open = True
        self._on_waiting: Callable[[int], None] | None = None
        # Read also while no worker sends requests: the kernel's queue of notifications is finite.
        reactor.watch(broker.deletions, broker.follow_deletions)

    def connect(self, worker: ManagedWorker, end: socket.socket) -> None:
        """Take ownership of the supervisor's end of a worker's connection."""
        end.setblocking(False)
        worker.broker = end
        self._connected[worker.number] = worker
        self._watch(worker, end)

    def serve(self, worker: ManagedWorker) -> None:
        """Answer the requests of a worker, if the desk is open."""
        if worker.broker is None or not self._is_open:
            return
        try:
            is_connected = self.broker.serve(worker.number, worker.broker.fileno())
        except Exception as error:  # This worker's requests caused it; the others are unaffected.
            self.disconnect(worker)
            self._on_fault(worker, str(error))
            return
        if not is_connected:
            self.disconnect(worker)
            self._on_end(worker)

    def disconnect(self, worker: ManagedWorker) -> None:
        """Close a worker's connection."""
        if worker.broker is not None:
            self._forget(worker.number)
            del self._connected[worker.number]
            worker.broker.close()
            worker.broker = None

    def close(self, on_waiting: Callable[[int], None] | None = None) -> None:
        """Serve no more requests until `open`.

        Args:
            on_waiting: called once with the number of each worker that waits for an answer.
        """
        self._is_open = False
        self._on_waiting = on_waiting
        for number in list(self._watched):
            self._forget(number)

    def open(self) -> None:
        """Serve requests again, beginning with those that have waited."""
        self._is_open = True
        self._on_waiting = None
        for worker in list(self._connected.values()):
            if worker.broker is not None:
                self._watch(worker, worker.broker)
                self.serve(worker)

    def _watch(self, worker: ManagedWorker, end: socket.socket) -> None:
        if self._is_open:
            self._reactor.watch(end, functools.partial(self.serve, worker))
        elif self._on_waiting is not None:
            self._reactor.watch(end, functools.partial(self._note_waiting, worker.number))
        else:
            return
        self._watched[worker.number] = end

    def _note_waiting(self, number: int) -> None:
        self._forget(number)
        if self._on_waiting is not None:
            self._on_waiting(number)

    def _forget(self, number: int) -> None:
        end = self._watched.pop(number, None)
        if end is not None:
            self._reactor.forget(end)

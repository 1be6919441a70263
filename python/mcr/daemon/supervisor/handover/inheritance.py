"""What a new supervisor gets from the running one, before it starts any process."""

import os
import select
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from ....errors import McrError
from ....protocol.peercred import peer_credentials
from ...sealed_memfd import SealedMemfdError
from ..errors import StartError
from ..listener import Listener
from ..native import Broker
from ..snapshot_store import SnapshotStore
from .endpoint import endpoint_path
from .form import FormError, Kind, Needs, refusal_text
from .link import Outgoing, SupervisorLink, close_all

_OFFER_S = 20.0  # control may be in the middle of a change
_ALONE = 4
"""Descriptors of an offer: listener, lock, numbers of events, rules."""
_WITH_OBSERVERS = _ALONE + 2


@dataclass(slots=True)
class Inheritance:
    """The descriptors of a running daemon."""

    link: SupervisorLink
    pid: int
    """The supervisor that is to be replaced."""
    listener: tuple[int, int]
    """The listening socket and its lock."""
    numbers: int
    """The memory for the numbers of events."""
    snapshot: int
    """The rules."""
    observers: tuple[int, int] | None = None
    """The listening socket for observers and its lock, if both daemons have the same."""
    pages: list[int] = field(default_factory=list)
    """The pages of counters; empty if their layouts differ."""
    leases: list[tuple[bytes, int]] = field(default_factory=list)
    """The broker's records, and the sockets."""

    def give_rules(self, snapshots: SnapshotStore) -> None:
        """Give the rules to the store of this daemon.

        Raises:
            StartError: they are not sealed.
        """
        try:
            snapshots.adopt(self.snapshot)
        except SealedMemfdError as error:
            raise StartError(f"the rules of process {self.pid}: {error}") from None

    def give_leases(self, broker: Broker) -> None:
        """Give the sockets to the broker of this daemon.

        Raises:
            StartError: the broker refuses one.
        """
        leases, self.leases = self.leases, []
        try:
            for record, descriptor in leases:
                broker.adopt(record, descriptor)
        except McrError as error:
            raise StartError(f"a socket of process {self.pid}: {error}") from None
        finally:
            close_all(descriptor for _, descriptor in leases)

    def close(self) -> None:
        """Close everything."""
        self.link.close()
        close_all([*self.listener, self.numbers, self.snapshot, *self.pages])
        close_all(self.observers or ())
        close_all(descriptor for _, descriptor in self.leases)


class InheritedListener(Listener):
    """A listener that another process has opened, and owns until `own`."""

    def __init__(self, path: Path, descriptors: tuple[int, int]) -> None:
        """Take ownership of the descriptors of the socket and the lock."""
        listening, lock = descriptors
        self.adopt(path, socket.socket(fileno=listening), lock)


def request_inheritance(path: Path, needs: Needs) -> Inheritance:
    """Have the running daemon hand over its descriptors; it continues to relay.

    Args:
        path: the socket of the daemon.
        needs: those of this version.

    Raises:
        StartError: there is no daemon, or it refuses.
    """
    link, pid = _connect(path)
    until_s = time.monotonic() + _OFFER_S
    link.send(Outgoing(needs.form()))
    try:
        return _receive(link, pid, until_s)
    except FormError as error:
        fault = f"it sends {error}"
    except TimeoutError:
        fault = f"it did not answer for {_OFFER_S:g} s"
    except OSError:
        fault = "it has ended"
    except StartError as error:
        fault = str(error)
    link.close()
    raise StartError(f"cannot take over from process {pid}: {fault}")


def _connect(path: Path) -> tuple[SupervisorLink, int]:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.connect(os.fspath(endpoint_path(path)))
        peer = peer_credentials(end)
    except (FileNotFoundError, ConnectionRefusedError):
        end.close()
        fix = "start it without --takeover, or name its socket with --socket"
        raise StartError(f"no daemon that can be replaced serves {path}; {fix}") from None
    except OSError as error:
        end.close()
        raise StartError(f"cannot take over at {path}: {error.strerror}") from None
    if peer.uid != os.geteuid():
        end.close()
        raise StartError(
            f"the daemon at {path} belongs to user {peer.uid}; start this one as that user"
        )
    return SupervisorLink(end), peer.pid


def _receive(link: SupervisorLink, pid: int, until_s: float) -> Inheritance:
    offer = link.receive(until_s)
    if offer.form.kind is Kind.REFUSED:
        raise StartError(refusal_text(offer.form.number, offer.form.values[0]))
    if offer.form.kind is not Kind.OFFER:
        offer.close()
        raise FormError(f"{offer.form.kind.name} before an offer")
    count = _WITH_OBSERVERS if len(offer.descriptors) == _WITH_OBSERVERS else _ALONE
    listening, lock, numbers, snapshot, *observers = offer.take(count)
    found = Inheritance(link, pid, (listening, lock), numbers, snapshot)
    if observers:
        found.observers = observers[0], observers[1]
    try:
        _receive_rest(found, until_s)
    except BaseException:
        found.close()
        raise
    return found


def _receive_rest(found: Inheritance, until_s: float) -> None:
    while True:
        message = found.link.receive(until_s)
        try:
            if message.form.kind is Kind.REFUSED:
                raise StartError(refusal_text(message.form.number, message.form.values[0]))
            if message.form.kind is Kind.PAGE:
                found.pages += message.take(1)
            elif message.form.kind is Kind.LEASE:
                found.leases.append((message.form.content, message.take(1)[0]))
            elif message.form.kind is Kind.OFFERED:
                if message.form.number != len(found.leases):
                    raise FormError("fewer sockets than it says")
                return
            else:
                raise FormError(f"{message.form.kind.name} in an offer")
        finally:
            message.close()


def is_over(pidfd: int | None) -> bool:
    """Whether the process behind a pidfd has ended; None is that of one that has."""
    if pidfd is None:
        return True
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))

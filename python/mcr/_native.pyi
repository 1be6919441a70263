"""The native core; `mcr` re-exports what is public of it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Literal, final

__all__ = [
    "LOSSES",
    "Broker",
    "CounterPages",
    "CounterReading",
    "Datagram",
    "Discard",
    "Interface",
    "Layers",
    "ReceiverCore",
    "RelayCore",
    "SenderCore",
    "confine_control",
    "drop_privileges",
    "interfaces",
    "layers",
    "make_page",
    "parse_frame",
    "run_worker",
    "shrink_supervisor",
    "switch_gro_on",
    "try_io_uring",
    "udp_gro_forwarding",
]

LOSSES: Final[list[str]]
"""Why copies may be lost: the names of the counters."""

@final
class Interface:
    """One network interface of this network namespace, as the kernel lists it."""

    @property
    def name(self) -> str: ...
    @property
    def altnames(self) -> list[str]: ...
    @property
    def index(self) -> int: ...
    @property
    def up(self) -> bool: ...
    @property
    def multicast(self) -> bool: ...
    @property
    def loopback(self) -> bool: ...
    @property
    def carrier(self) -> bool: ...
    @property
    def mtu(self) -> int: ...
    @property
    def gro(self) -> bool: ...
    @property
    def addresses(self) -> list[IPv4Address | IPv6Address]: ...
    @property
    def broadcasts(self) -> list[IPv4Address]: ...

@final
class Layers:
    """Where the kernel receives for an interface that does not receive for itself, or who takes
    what arrives at one.
    """

    @property
    def cards(self) -> list[str]: ...
    @property
    def elsewhere(self) -> bool: ...
    @property
    def receiving_master(self) -> str | None: ...
    @property
    def snooped_groups(self) -> int | None: ...

def layers() -> dict[str, Layers]:
    """Return how the interfaces of the calling thread's network namespace stand on each other."""

def interfaces() -> list[Interface]:
    """Return the interfaces of the calling thread's network namespace."""

def switch_gro_on(interface: str) -> None:
    """Switch an interface's generic receive offload on."""

def udp_gro_forwarding(interface: str) -> bool | None:
    """Return whether a device merges datagrams also where no socket asks for it, if it knows."""

def make_page() -> int:
    """Make a page of counters for a worker process and its successors; return its descriptor."""

def run_worker(arguments: str) -> int:
    """Run a worker process, a JSON object says which, until it ends; return its exit code."""

def try_io_uring() -> None:
    """Make a ring as an engine does, and let it go."""

def confine_control(
    uid: int | None,
    gid: int | None,
    supervisor: int,
    readable: Sequence[str],
    removable: Sequence[str],
) -> str:
    """Give up all rights of a control process, for good; return what the kernel hides.

    The process must have one thread, and `supervisor` must be its parent, with which it dies from
    now on. Becomes the user and group, or without them stays who it is; keeps no capability, opens
    only `readable` (files, and directories with all below them) and what the resolver reads, and
    removes only files beside `removable`. Raises RightsError; then it must end.
    """

def drop_privileges(uid: int, gid: int) -> None:
    """Become another user and group without any capability, for good, while there is one thread.

    With the user 0 nothing but programs that are started loses rights: they gain none. Raises
    RightsError; then the process must end.
    """

def shrink_supervisor(any_file: bool) -> None:
    """Keep only the capabilities that a supervisor uses, while it has one thread.

    `any_file` keeps CAP_DAC_OVERRIDE, for a configuration in somebody's home. Raises RightsError.
    """

@final
class Datagram:
    """The UDP datagram that a frame carries."""

    @property
    def source(self) -> IPv4Address | IPv6Address: ...
    @property
    def group(self) -> IPv4Address | IPv6Address: ...
    @property
    def source_port(self) -> int: ...
    @property
    def port(self) -> int: ...
    @property
    def ttl(self) -> int: ...
    @property
    def dscp(self) -> int: ...
    @property
    def vlan(self) -> int: ...
    @property
    def payload(self) -> bytes: ...

@final
class Discard:
    """Why a frame carries no datagram that can be relayed."""

    @property
    def reason(self) -> str: ...

def parse_frame(frame: bytes) -> Datagram | Discard:
    """Parse an Ethernet frame as the packet ingress does."""

@final
class RelayCore:
    """The relay: sockets are opened by `apply`, threads begin with `start`."""

    def __new__(
        cls,
        ingress: Literal["auto", "packet", "udp"],
        workers: int,
        buffer_bytes: int,
        cpus: Sequence[int],
        verify_checksums: bool,
    ) -> RelayCore: ...
    @property
    def ingress(self) -> Literal["packet", "udp"]: ...
    @property
    def error(self) -> str | None: ...
    def apply(self, remove: Sequence[str], put: bytes, whole: bool, note: object) -> None:
        """Remove rules by their ids and put others, all or nothing.

        `put` is what `rules.spec.rule_specs` makes; `whole` removes all rules that it does not
        have. Rules that stay as they are, enabled or not, are not touched. A change that is made
        leaves its note in `changed` before this returns: no signal handler comes between the two.
        """

    @property
    def changed(self) -> object:
        """The note of the newest change that was made; None before the first."""

    def disabled(self) -> list[str]:
        """Return the ids of the rules that are disabled."""

    def set_enabled(self, rule_id: str, enabled: bool) -> None:
        """Enable or disable a rule; its sockets stay open."""

    def open_spares(self) -> None:
        """Make rings and open sockets beforehand, for a process that gives up its rights."""

    def start(self) -> None:
        """Start the engine threads."""

    def stop(self) -> None:
        """Stop the engine; twice is once."""

    def wait(self, timeout_s: float | None) -> bool:
        """Return True when the engine stopped, False after the time."""

    def warnings(self) -> list[str]:
        """Return what the user should know, one sentence each."""

    def stats(self) -> dict[str, Any]:
        """Return the counters."""

@final
class Broker:
    """Opens sockets for worker processes that may open none, and keeps what a dead one had.

    A worker's requests come over a SOCK_SEQPACKET socket pair (unix(7)). Sockets are opened in the
    network namespace of the thread that serves, with its rights. `buffer_bytes` is each worker's
    and bounds its packet rings.
    """

    def __new__(
        cls, workers: int, ingress: Literal["packet", "udp"], buffer_bytes: int = 33554432
    ) -> Broker: ...
    @property
    def open_sockets(self) -> int: ...
    def serve(self, worker: int, fd: int) -> bool:
        """Answer what waits on a worker's socket, without waiting; False when it is closed.

        Raises EngineError for a worker that does not keep to the messages: end it. What it had is
        kept for who connects next under its number.
        """

    @property
    def deletions(self) -> int:
        """A descriptor that is readable when interfaces were deleted."""

    def follow_deletions(self) -> None:
        """Give up what stands on interfaces that are gone; for when `deletions` is readable."""

    def forget(self) -> None:
        """Close all that is held for workers."""

@final
class CounterPages:
    """The pages that worker processes count in, in the order of their numbers, to be read only."""

    def __new__(cls, descriptors: Sequence[int]) -> CounterPages:
        """Map what is behind each descriptor, which stays the caller's and may be read-only."""

    def read(self) -> CounterReading:
        """Read all pages; takes at most 0.1 s for each whose worker does not let it."""

@final
class CounterReading:
    """What all workers had counted at one moment. Any thread may ask."""

    @property
    def stale(self) -> list[int]:
        """The numbers of the workers whose page could not be read: what it showed before counts."""

    @property
    def alive_age_ms(self) -> list[int | None]:
        """How long ago each worker last said that it is there; None for never."""

    @property
    def kernel_dropped_frames(self) -> list[int]:
        """Frames that the kernel lost on all interfaces of each worker."""

    def interfaces(self, ingress: str) -> list[dict[str, Any]]:
        """Return what each interface counted, as `RelayCore.stats` does."""

    def has_rule(self, id: str) -> bool:
        """Whether some worker counts for a rule."""

    def rule(
        self, id: str, enabled: bool, trouble: str | None, parked: Sequence[str | None]
    ) -> dict[str, Any]:
        """Return what a rule counted, as `RelayCore.stats` does; zeros where no worker counts.

        `enabled`, `trouble` and for each output `parked` are put beside the counters.
        """

@final
class SenderCore:
    """A sender of numbered, time-stamped datagrams."""

    def __new__(cls, output: bytes, size_bytes: int, rate_pps: float | None) -> SenderCore:
        """Open the socket for an output in the form of `rules.spec.output_spec`."""

    def send(self, count: int | None, duration_s: float | None) -> dict[str, Any]:
        """Send until a limit is reached or `stop` was called; return the report of this run."""

    def stop(self) -> None:
        """End the run in progress, and any later one at once."""

@final
class ReceiverCore:
    """A receiver of numbered, time-stamped datagrams, and of any others."""

    def __new__(cls, input: bytes, gro: bool) -> ReceiverCore:
        """Open the socket for an input in the form of `rules.spec.input_spec`, and join."""

    def receive(
        self, count: int | None, duration_s: float | None, idle_s: float | None
    ) -> dict[str, Any]:
        """Receive until a limit is reached or `stop` was called; return the report so far."""

    def report(self) -> dict[str, Any]:
        """Return the report so far; any thread may ask."""

    def stop(self) -> None:
        """End the run in progress, and any later one at once."""

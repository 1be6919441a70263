"""The native core. `mcr` re-exports its public parts."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Literal, final

_FlowGaps = tuple[str, str, int, str, int, int]

__all__ = [
    "ENGINE_REASONS",
    "LEASE_FORM",
    "LOSSES",
    "SOCKET_REASONS",
    "Broker",
    "CounterPages",
    "CounterReading",
    "Datagram",
    "Discard",
    "Interface",
    "Layers",
    "ReceiverCore",
    "RelayCore",
    "RuleExplainer",
    "SenderCore",
    "TapReader",
    "TapRecord",
    "XdpDevice",
    "confine_control",
    "drop_privileges",
    "export_counters",
    "import_counters",
    "input_obstacle",
    "interfaces",
    "layers",
    "left_features",
    "make_page",
    "output_keys",
    "page_layout",
    "parse_captured",
    "parse_frame",
    "restore_features",
    "run_worker",
    "set_process_title",
    "shrink_supervisor",
    "switch_gro_on",
    "try_io_uring",
    "udp_gro_forwarding",
    "xdp_device",
    "xdp_obstacle",
]

ENGINE_REASONS: Final[list[str]]
"""Why the engine may relay a rule and not the kernel: the words in reports."""
LEASE_FORM: Final[int]
"""The version of the form of a broker's records."""
LOSSES: Final[list[str]]
"""The reasons why copies are lost, as the counters name them."""
SOCKET_REASONS: Final[list[str]]
"""Why copies may leave through sockets instead of AF_XDP: the words in reports."""

@final
class Interface:
    """A network interface of this network namespace, as the kernel lists it."""

    @property
    def name(self) -> str:
        """The primary name."""

    @property
    def altnames(self) -> list[str]:
        """The alternative names (ip-link(8), property add)."""

    @property
    def index(self) -> int:
        """The kernel's index, from 1."""

    @property
    def up(self) -> bool:
        """Whether it is administratively up."""

    @property
    def multicast(self) -> bool:
        """Whether it supports multicast."""

    @property
    def loopback(self) -> bool:
        """Whether it is the loopback."""

    @property
    def carrier(self) -> bool:
        """Whether it has a carrier, so that datagrams can leave."""

    @property
    def mtu(self) -> int:
        """The MTU in bytes, including the IP header."""

    @property
    def gro(self) -> bool:
        """Whether generic receive offload is on; False if the device does not report it."""

    @property
    def addresses(self) -> list[IPv4Address | IPv6Address]:
        """The addresses, IPv4 first."""

    @property
    def broadcasts(self) -> list[IPv4Address]:
        """The broadcast addresses of its IPv4 networks."""

@final
class Layers:
    """The interfaces below and above an interface."""

    @property
    def cards(self) -> list[str]:
        """The names of the lowest interfaces that receive for it; its own name if no other does."""

    @property
    def elsewhere(self) -> bool:
        """Whether one of the interfaces that receive for it is in another network namespace."""

    @property
    def receiving_master(self) -> str | None:
        """The name of the bridge or bond that receives what arrives here; None without one."""

    @property
    def snooped_groups(self) -> int | None:
        """The number of groups in its table if it is a bridge with snooping, else None."""

    @property
    def asks_memberships(self) -> bool:
        """Whether it asks for memberships itself, if it is such a bridge."""

    @property
    def queriers(self) -> list[IPv4Address | IPv6Address]:
        """The other hosts that ask for memberships on its links, if it is such a bridge."""

def layers() -> dict[str, Layers]:
    """Return the layers of each interface of the calling thread's network namespace, by its name.

    Raises InterfaceError if the kernel does not list them.
    """

def interfaces() -> list[Interface]:
    """Return the interfaces of the calling thread's network namespace, sorted by index.

    Raises InterfaceError if the kernel does not list them.
    """

@final
class XdpDevice:
    """What an interface and its driver can do with XDP."""

    @property
    def runs(self) -> bool | None:
        """Whether the driver runs XDP programs itself; None if the kernel does not say."""

    @property
    def sends(self) -> bool:
        """Whether the driver sends frames of XDP programs."""

    @property
    def program(self) -> int | None:
        """The number of the XDP program that is attached; None without one."""

    @property
    def merging(self) -> list[str]:
        """The features (ethtool) that are on and merge frames before XDP programs get them."""

    @property
    def veth(self) -> bool:
        """Whether it is a veth."""

    @property
    def peer(self) -> str | None:
        """The name of the other end of a veth; None if that is in another network namespace."""

    @property
    def receiver_above(self) -> str | None:
        """The interface above it that gets its untagged frames; None without one."""

def xdp_device(interface: str) -> XdpDevice | None:
    """Return what an interface of the calling thread's network namespace can do with XDP.

    None if it does not exist. Raises InterfaceError if the kernel does not answer.
    """

def input_obstacle(interface: str, is_v4: bool, to_sockets: bool) -> tuple[str, str] | None:
    """Return what else inspects the datagrams of one IP version that arrive at an interface.

    A word (`capture`, `filter`, `firewall` or `refused`) and a sentence; None if nothing does. It
    would miss those that the kernel relays. `to_sockets`:
    whether they are received through UDP sockets, behind the firewall.
    """

def restore_features() -> list[tuple[str, str]]:
    """Switch on the features of interfaces that a process of mcr left off.

    Of the calling thread's network namespace: a process that was killed, or had no rights any more.
    Returns pairs of interface and feature. Raises McrError if no descriptor is left.
    """

def left_features() -> list[tuple[str, str]]:
    """Return what `restore_features` would switch on."""

def switch_gro_on(interface: str) -> None:
    """Switch generic receive offload of an interface on.

    Raises RightsError without CAP_NET_ADMIN, InterfaceError if the device does not support it.
    """

def udp_gro_forwarding(interface: str) -> bool | None:
    """Return whether an interface merges datagrams also if no socket requests it.

    None if the device or the kernel does not have the feature (rx-udp-gro-forwarding).
    """

def xdp_obstacle(interface: str, is_v4: bool) -> str | None:
    """Return why copies to groups of one IP version cannot leave an interface through AF_XDP.

    A sentence; None if they can. Whether another program has the queue is not tried.
    """

def make_page() -> int:
    """Create a page of counters for a worker process and its successors.

    Returns the descriptor, which the caller owns. Raises InterfaceError, an OSError, if there is
    not enough memory or no free descriptor.
    """

def page_layout() -> int:
    """Return a number that differs between versions whose pages have another layout."""

def export_counters(page: int) -> bytes:
    """Return the counts in a page in which no process counts any more, for `import_counters`.

    `page` is its descriptor, which remains the caller's. Raises InterfaceError, an OSError, for a
    page of another layout.
    """

def import_counters(page: int, counts: bytes) -> None:
    """Write counts of another version into a new page, before a worker counts in it.

    `page` is its descriptor, which remains the caller's. What this version does not count is left
    out. Raises InterfaceError, an OSError, for a page of another layout.
    """

def run_worker(arguments: str) -> int:
    """Run a worker until its engine or its supervisor ends; return the exit code.

    `arguments` is a JSON object. The process must have one thread. Errors are not raised: they are
    one line on standard error, and the exit code 64 (arguments), 71 (not started) or 70 (the engine
    ended).
    """

def try_io_uring() -> None:
    """Create an io_uring as an engine does, and close it.

    Raises RightsError if io_uring is not permitted, EngineError for another reason.
    """

def confine_control(
    uid: int | None,
    gid: int | None,
    supervisor: int,
    readable: Sequence[str],
    removable: Sequence[str],
) -> str:
    """Give up all privileges of a control process, permanently.

    Returns a sentence on how much landlock restricts. The process must have one thread, and
    `supervisor` must be its parent, with which it dies from now on. Switches to the user and group
    ids, or keeps its own if both are None. Keeps no capability, opens only `readable` (files, and
    directories with all below them) and the files of the name resolver, and removes only the files
    `removable` and their siblings. Raises RightsError or InterfaceError; the process must end then.
    """

def drop_privileges(uid: int, gid: int) -> None:
    """Switch to another user and group without any capability, permanently.

    The process must have one thread. With `uid` 0 it keeps its user and capabilities, and only
    programs that it starts cannot gain privileges. Raises RightsError; the process must end then.
    """

def set_process_title(title: str) -> None:
    """Have ps(1) and top(1) show this text for the process, instead of its command line.

    The text is cut to the length of the command line, and to 15 bytes where only the name of the
    program is shown.
    """

def shrink_supervisor(any_file: bool, offload: bool) -> None:
    """Keep only the capabilities that a supervisor needs.

    The process must have one thread. `any_file` also keeps CAP_DAC_OVERRIDE, for a configuration
    file that only its owner may read; `offload` those that the relay in the kernel needs besides
    CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON. Raises RightsError.
    """

@final
class Datagram:
    """The UDP datagram that a frame carries."""

    @property
    def source(self) -> IPv4Address | IPv6Address:
        """The source address."""

    @property
    def group(self) -> IPv4Address | IPv6Address:
        """The destination address."""

    @property
    def source_port(self) -> int:
        """The source port, 0 to 65535."""

    @property
    def port(self) -> int:
        """The destination port, 0 to 65535."""

    @property
    def ttl(self) -> int:
        """The TTL, or the hop limit of IPv6, 0 to 255."""

    @property
    def dscp(self) -> int:
        """The differentiated services code point, 0 to 63."""

    @property
    def vlan(self) -> int:
        """The VLAN ID, 1 to 4094; 0 for an untagged frame and for a priority tag."""

    @property
    def payload(self) -> bytes:
        """The UDP payload."""

@final
class Discard:
    """Why a frame carries no datagram that can be relayed."""

    @property
    def reason(self) -> str:
        """The reason, as the counters name it."""

def parse_frame(frame: bytes) -> Datagram | Discard:
    """Parse an Ethernet frame as the `packet` ingress does.

    Checksums are verified; a VLAN tag is read from the frame. Any bytes are accepted.
    Raises ArgumentError for anything but bytes.
    """

def parse_captured(frame: bytes, network: int | None, verify: bool) -> Datagram | Discard:
    """Parse a frame of a capture whose IP header begins at `network`.

    `network` is the offset in bytes; None for an Ethernet frame, whose own header says it. With
    `verify` a wrong UDP checksum is a reason to discard it. Any bytes are accepted.
    """

_GivenDatagram = tuple[
    tuple[IPv4Address | IPv6Address, int], tuple[IPv4Address | IPv6Address, int], int, int, int, int
]

@final
class RuleExplainer:
    """The rules of a relay, to find what it would do with a datagram. Sends nothing.

    `rules` is a JSON array from `rules.spec.rule_specs`. The interfaces of inputs are compared by
    `ifindex`, which may be any number here. Raises RuleError for invalid values.
    """

    def __new__(cls, rules: bytes) -> RuleExplainer: ...
    def explain(
        self, interface: int, datagram: _GivenDatagram, most: int
    ) -> tuple[list[int], str | None, list[tuple[int, str]]]:
        """Look a datagram up that arrived on the interface with this number.

        `datagram` has the source and its port, the group and its port, TTL, DSCP, VLAN and size in
        bytes. Returns the indices of the rules that relay it, the reason if none does, and at most
        `most` other rules for the group: index, and why not (shadowed, disabled, interface, port,
        vlan or source).
        """

    def copies(self, rules: Sequence[int], datagram: _GivenDatagram) -> list[list[dict[str, Any]]]:
        """Return the copies of a datagram that the outputs of rules would send, as dictionaries.

        One list for each rule in `rules`, by its index. Reads links, routes and neighbours of the
        calling thread's network namespace. Raises InterfaceError if the kernel does not list them,
        RuleError for an index that no rule has.
        """

@final
class RelayCore:
    """A relay in this process: `apply` opens sockets, `start` starts threads.

    `workers` is the number of engines, at least 1; `buffer_bytes` the size of each one's receive
    buffers, at least 1 MiB; `cpus` the CPU of each engine, or empty. `verify_checksums` drops
    datagrams with a wrong UDP checksum, `flows` counts the flows of each rule, `latency` measures
    its latency. Raises RuleError for invalid values, InterfaceError for an error of the kernel.
    """

    def __new__(
        cls,
        ingress: Literal["auto", "packet", "udp"],
        egress: Literal["auto", "socket", "xdp"],
        offload: Literal["off", "auto", "require"],
        workers: int,
        buffer_bytes: int,
        cpus: Sequence[int],
        verify_checksums: bool,
        flows: bool,
        latency: bool,
    ) -> RelayCore: ...
    @property
    def ingress(self) -> Literal["packet", "udp"]:
        """`packet` or `udp`; `auto` was decided when the relay was created."""

    @property
    def engine(self) -> Literal["io_uring", "poll"] | None:
        """How the engines receive and send: `io_uring`, or `poll` where the kernel refuses that.

        None before the start.
        """

    @property
    def error(self) -> str | None:
        """The error that ended an engine; None if none did."""

    def apply(
        self,
        remove: Sequence[str],
        put: bytes,
        edit: bytes,
        whole: bool,
        shaping: bytes | None,
        note: object,
    ) -> None:
        """Remove rules by their ids and put others; on an error nothing changes.

        `put` is a JSON array from `rules.spec.rule_specs`: its rules are added, or replace those
        with the same ids. `edit` is one of `rules.spec.edit_spec`: these rules get some other
        outputs. `whole` removes all rules that neither contains. Rules that stay the same, enabled
        or not, keep their sockets and counters, and so do the outputs that stay. `shaping` is a
        JSON object from `rules.shaping.shaping_spec`, or None to leave classes and rates of
        interfaces as they are. A successful change sets `changed` to `note` before this returns, so
        that no signal handler of Python runs in between. Raises RuleError, RightsError,
        InterfaceError or EngineError.
        """

    @property
    def changed(self) -> object:
        """The note of the last successful change; None before the first."""

    def open_spares(self) -> None:
        """Create rings and spare sockets, before a process gives up its privileges.

        Raises RightsError or InterfaceError.
        """

    def start(self) -> None:
        """Start the engine threads.

        Raises RuleError if the relay was started before.
        """

    def stop(self) -> None:
        """Stop the engine threads once they have sent what they received; harmless if repeated."""

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until the engines have ended; return False if the time expired first.

        `timeout_s` is in seconds, None waits without limit. Raises RuleError for an invalid time,
        EngineError if an engine ended with an error.
        """

    def warnings(self) -> list[str]:
        """Return warnings about the set-up of this host, one sentence each."""

    def stats(self) -> dict[str, Any]:
        """Return the counters: a dictionary with the lists `interfaces` and `rules`."""

    def reading(self) -> CounterReading:
        """Read the counters, for what `CounterReading` finds in two readings."""

    def add_tap(self, number: int, filter: bytes, rings: Sequence[int]) -> None:
        """Record in these rings, one for each engine, what a filter takes.

        `filter` is a JSON object, as workers get it. The descriptors remain the caller's. A tap
        with the same number ends. Raises RuleError for an invalid filter or too many taps,
        InterfaceError for a ring that cannot be mapped.
        """

    def remove_tap(self, number: int) -> None:
        """End a tap; harmless if there is none with this number."""

    def troubles(
        self, version: int | None
    ) -> (
        tuple[
            int,
            list[tuple[str, tuple[Literal["unresolved", "waiting"], str] | None, list[str | None]]],
        ]
        | None
    ):
        """Return the rules that cannot receive or have an output that cannot send, and a version.

        Each with its id, state and reason of its input or None, and for each output why it cannot
        send or None. None if nothing has changed since `version`.
        """

    def senders(self, rules: Sequence[str], window_ms: int) -> list[int] | None:
        """Return for each of these rules how many senders it heard in the last `window_ms`.

        None if flows are not counted.
        """

    def sequence_gaps(self, rules: Sequence[str]) -> list[_FlowGaps] | None:
        """Return the flows of these rules in which numbers are missing: the rule's id, the sender
        and its port, the group and its port, and how many numbers.

        None if flows are not counted.
        """

    def latency(self, rules: Sequence[str]) -> list[dict[str, Any]] | None:
        """Return the latency of these rules as dictionaries: `sum_ns`, `max_ns`, `unmeasured`, and
        `buckets` with the least time, the least of the next bucket, and the datagrams.

        None if it is not measured.
        """

    def flows(self, rules: Sequence[str]) -> list[dict[str, Any]] | None:
        """Return the flows of these rules as dictionaries, those with the most datagrams first.

        None if they are not counted.
        """

@final
class Broker:
    """Opens sockets for worker processes that may not, and keeps those of a dead worker.

    A worker's requests arrive over a SOCK_SEQPACKET socket pair (unix(7)). Sockets are opened in
    the network namespace of the thread that calls `serve`, with its privileges. `workers` is the
    number of workers; `buffer_bytes` applies to each of them and bounds its packet rings. Without
    `xdp_links` a worker that requests an AF_XDP socket violates the protocol; so does one that
    requests the relay in the kernel without `offload`, which takes a single worker. Raises
    RuleError for an invalid ingress or for `offload` with several workers, InterfaceError for an
    error of the kernel.
    """

    def __new__(
        cls,
        workers: int,
        ingress: Literal["packet", "udp"],
        buffer_bytes: int = 33554432,
        xdp_links: bool = True,
        offload: bool = False,
    ) -> Broker: ...
    @property
    def open_sockets(self) -> int:
        """The number of open sockets, including those that hold memberships."""

    def serve(self, worker: int, fd: int) -> bool:
        """Answer the requests that wait on a worker's socket; return False if it is closed.

        `worker` is its number, from 0, and `fd` the supervisor's end of the socket pair, which
        remains the caller's. Does not block. Raises EngineError for a worker that violates the
        protocol: the caller must end it. Its sockets are kept for the next process with its number.
        """

    @property
    def deletions(self) -> int:
        """A descriptor that is readable when `follow_deletions` has something to do."""

    def follow_deletions(self) -> None:
        """Close the sockets on deleted interfaces."""

    def leased(self) -> list[tuple[bytes, int]]:
        """Return the record (512 bytes) and the descriptor of each socket, for `adopt`.

        The descriptors remain the broker's, and are valid until it is used again.
        """

    def adopt(self, record: bytes, fd: int) -> None:
        """Take over a socket of another process's broker, whose record this is.

        It waits for its worker as after the death of that. `fd` remains the caller's. Raises
        RuleError for a record of another form or for more workers, InterfaceError for an error of
        the kernel.
        """

    def forget(self) -> None:
        """Close all sockets, and detach the relay in the kernel."""

@final
class CounterPages:
    """The counter pages of worker processes, mapped read-only.

    `descriptors` has one for each page, in the order of the workers' numbers; they may be
    read-only, and remain the caller's. Raises InterfaceError if a page cannot be mapped.
    """

    def __new__(cls, descriptors: Sequence[int]) -> CounterPages: ...
    def read(self) -> CounterReading:
        """Read all pages; takes at most 0.1 s for each whose worker does not finish an update."""

    def senders(self, rules: Sequence[str], window_ms: int) -> list[int] | None:
        """Return the senders of these rules as `RelayCore.senders` does.

        None if no worker counts flows.
        """

    def sequence_gaps(self, rules: Sequence[str]) -> list[_FlowGaps] | None:
        """Return the flows in which numbers are missing, as `RelayCore.sequence_gaps` does.

        None if no worker counts flows.
        """

    def latency(self, rules: Sequence[str]) -> list[dict[str, Any]] | None:
        """Return the latency of these rules as `RelayCore.latency` does.

        None if no worker measures it.
        """

    def flows(self, rules: Sequence[str]) -> list[dict[str, Any]] | None:
        """Return the flows of these rules as `RelayCore.flows` does.

        None if no worker counts flows.
        """

@final
class CounterReading:
    """The counters of all workers at one moment. Any thread may use it."""

    @property
    def stale(self) -> list[int]:
        """The numbers of the workers whose page could not be read; their last reading is used."""

    @property
    def alive_age_ms(self) -> list[int | None]:
        """The age of each worker's last sign of life, in milliseconds; None if it gave none."""

    @property
    def kernel_dropped_frames(self) -> list[int]:
        """For each worker, the frames that the kernel lost on all of its interfaces."""

    def interfaces(self, ingress: str) -> list[dict[str, Any]]:
        """Return the counters of each interface as `RelayCore.stats` does, with `ingress` added."""

    def copies(self) -> tuple[int, int, int, int]:
        """Return the copies of all outputs: wanted, sent, bytes of those sent, and lost."""

    def has_rule(self, id: str) -> bool:
        """Whether any worker counts for a rule."""

    def changes(
        self, before: CounterReading, rules: Sequence[tuple[str, bytes]]
    ) -> tuple[
        list[tuple[int, int, dict[str, int]]],
        list[tuple[int, IPv4Address | IPv6Address, IPv4Address | IPv6Address]],
        list[tuple[int, int, IPv4Address | IPv6Address]],
    ]:
        """Return what happened to rules since the reading `before`: losses, changes of the sender,
        loops.

        `rules` are ids, each with the keys of its outputs (`output_keys`). A loss is the position
        of its rule among them, the position of the output, and the lost copies by reason; a change
        is the position of the rule, and the address before and now; a loop the position of the
        rule, how many of the watched payloads have come back, and where the last one came from.
        """

    def levels(self, rules: Sequence[str]) -> list[tuple[int | None, float | None, float | None]]:
        """Return for each of these rules the age of its last datagram in milliseconds, and the
        datagrams and bits of payload that it matched in the last second.

        Each is None as long as it is unknown.
        """

    def merges(self, rules: Sequence[str]) -> list[tuple[int, int | None, int]]:
        """Return for each of these merging rules the numbers that no input has delivered, the
        number of the input that is sent alone, from 0, and how often another one was chosen.

        The second is None where all inputs are merged, and before the first datagram.
        """

    def rule(
        self, id: str, enabled: bool, parked: Sequence[str | None], keys: bytes
    ) -> dict[str, Any]:
        """Return the counters of a rule as `RelayCore.stats` does; zeros if no worker has it.

        `enabled` and, for each output, `parked` are added to the counters; `trouble` is None.
        `keys` are those of its outputs (`output_keys`).
        """

def output_keys(spec: bytes) -> bytes:
    """Return the keys of a rule's outputs, 8 bytes each, for `CounterReading.rule`.

    An output has the same key in all rules with the same input. `spec` is the rule's specification
    as JSON; raises RuleError if it is not one.
    """

@final
class TapRecord:
    """What a tap has recorded of a datagram."""

    @property
    def step(self) -> Literal["matched", "discarded", "sent", "lost"]:
        """`matched`, `discarded`, `sent` or `lost`."""

    @property
    def reason(self) -> str | None:
        """Why it was dropped, as the counters name it; None if it was not."""

    @property
    def error(self) -> str | None:
        """The kernel's error for a lost copy, such as EMSGSIZE; None if there was none."""

    @property
    def time_ns(self) -> int:
        """When it was recorded, in nanoseconds since 1970."""

    @property
    def arrived_ns(self) -> int | None:
        """When the kernel received the datagram, in the same unit; None if that is not known."""

    @property
    def datagram(self) -> int:
        """The number of the datagram at its worker, from 1, which its copies have too."""

    @property
    def rule(self) -> str | None:
        """The id of the rule; None for none."""

    @property
    def rules(self) -> int:
        """The number of rules that have matched; 0 if none has."""

    @property
    def output(self) -> int | None:
        """The position of the output in its rule, from 0; None for what was received."""

    @property
    def ifindex(self) -> int | None:
        """The index of the interface on which it was received; None for copies."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of the whole frame."""

    @property
    def frame(self) -> bytes:
        """Its first bytes, from the Ethernet header on."""

@final
class TapReader:
    """Reads the ring of a tap, mapped read-only.

    The descriptor may be read-only, and remains the caller's. Raises InterfaceError if the ring
    cannot be mapped.
    """

    MIN_BYTES: Final[int]
    """The fewest bytes of a ring."""

    def __new__(cls, descriptor: int) -> TapReader: ...
    def read(self, most: int) -> list[TapRecord]:
        """Return the next records, at most `most`; none if all were read."""

    @property
    def lost(self) -> int:
        """The number of records that were overwritten before they were read."""

@final
class SenderCore:
    """A sender of numbered, time-stamped datagrams.

    `output` is an output in the form of `rules.spec.output_spec`, `size_bytes` the size of each UDP
    payload, `rate_pps` the rate in datagrams per second, as fast as possible if None. Raises
    RuleError for invalid values, InterfaceError for an error of the kernel.
    """

    def __new__(cls, output: bytes, size_bytes: int, rate_pps: float | None) -> SenderCore: ...
    def send(self, count: int | None, duration_s: float | None) -> dict[str, Any]:
        """Send until a limit is reached or `stop` is called; return a dict like `SendReport`.

        `count` limits the number of datagrams, `duration_s` the time in seconds; None is no limit.
        Raises RuleError for an invalid time, or while another thread sends; EngineError after a
        run that panicked.
        """

    def stop(self) -> None:
        """End the run in progress, and any later one at once."""

@final
class ReceiverCore:
    """A receiver of numbered, time-stamped datagrams, and of any others.

    `input` is an input in the form of `rules.spec.input_spec`, whose group is joined; with `gro`
    the kernel may merge datagrams, with `numbers` those in the datagrams of each sender are read,
    as the input says. Raises RuleError for invalid values, InterfaceError for an error of the
    kernel.
    """

    def __new__(cls, input: bytes, gro: bool, numbers: bool) -> ReceiverCore: ...
    def receive(
        self, count: int | None, duration_s: float | None, idle_s: float | None
    ) -> dict[str, Any]:
        """Receive until a limit is reached or `stop` is called; return a dict like `ReceiveReport`.

        It reports all runs since the receiver was opened. `count` limits the number of datagrams,
        `duration_s` the time and `idle_s` the time since the last datagram, in seconds; None is no
        limit. Raises RuleError for an invalid time, or while another thread receives;
        InterfaceError for an error of the kernel.
        """

    def report(self) -> dict[str, Any]:
        """Return the report so far, a dict like `ReceiveReport`. Any thread may call it."""

    def stop(self) -> None:
        """End the run in progress, and any later one at once."""

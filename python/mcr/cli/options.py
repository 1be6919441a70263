"""Options that several commands share, each with its type, its range and its help."""

from typing import Annotated

import typer

from ..choices import Egress, Hosts, IngressChoice, Offload
from ..protocol.constants import SOCKET_VARIABLE
from ..protocol.log_spec import LOG_VARIABLE, LogSpec
from ..relay.settings import WORKERS_LIMIT

_LEAST_S, _MOST_S = 0.001, 10**9  # 1 ms to 30 years

CountOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Stop after this many datagrams.")
]
DurationOption = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=_LEAST_S, max=_MOST_S, help="Stop after this time."),
]
ReportAsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
IngressOption = Annotated[
    IngressChoice,
    typer.Option(
        help="How to receive: packet (AF_PACKET) needs CAP_NET_RAW, udp (sockets) needs no rights;"
        " auto is packet where that is permitted."
    ),
]
EgressOption = Annotated[
    Egress,
    typer.Option(
        help="How to send: socket (UDP), or xdp (AF_XDP), which needs CAP_NET_RAW and refuses rules"
        " whose outputs cannot use it; auto chooses for each output."
    ),
]
OffloadOption = Annotated[
    Offload,
    typer.Option(
        help="Whether the kernel relays (XDP), past this host's network stack: auto those rules"
        " that it can, require all of them; off none. Needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN,"
        " and of a daemon --workers 1: with more the engine relays every rule."
    ),
]
HostsOption = Annotated[
    Hosts, typer.Option(help="Send to the first address of a host name, or to all of them.")
]
WorkersOption = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, max=WORKERS_LIMIT, help="Number of workers; each uses one core."
    ),
]
CpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="The CPU of each worker, such as 0,2-3. By default each of several workers gets its"
        " own, if there are enough.",
    ),
]
AcceptBadChecksums = Annotated[
    bool,
    typer.Option(
        "--accept-bad-checksums",
        help="Also relay datagrams with a wrong UDP checksum (ingress packet only).",
    ),
]
FlowsOption = Annotated[
    bool,
    typer.Option(
        "--flows", help="Count who sends to each rule: source addresses and ports, TTL and DSCP."
    ),
]
LatencyOption = Annotated[
    bool,
    typer.Option(
        "--latency", help="Measure how long the datagrams of each rule take through the relay."
    ),
]


def _log_level(text: str) -> str:
    LogSpec.parse(text)
    return text


LogLevelOption = Annotated[
    str,
    typer.Option(
        metavar="LEVELS",
        parser=_log_level,
        envvar=LOG_VARIABLE,
        help="Log messages of this level (trace, debug, info, notice, warning, error, critical,"
        " alert, emergency) and above, and of some facilities of another one, such as"
        " info,rules=debug.",
    ),
]
LogStatsOption = Annotated[
    bool,
    typer.Option("--log-stats", help="Log the sums and rates of all traffic every second."),
]
ExpectOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="What rules expect that have no expect= of their own, such as 2s+1000pps: an alarm"
        " reports those that get less.",
    ),
]
SocketOption = Annotated[
    str | None,
    typer.Option(
        "--socket",
        metavar="PATH",
        envvar=SOCKET_VARIABLE,
        help="The daemon's socket; by default this user's.",
    ),
]
AnswerAsJson = Annotated[
    bool, typer.Option("--json", help="Print the answer as JSON, as the protocol defines it.")
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Check the change and show its effect; change nothing."),
]
ExpectedRevision = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=0, help="Change nothing if the rules are no longer at this revision."
    ),
]

"""The choices that the library, the command line and the daemon offer alike."""

from typing import Literal, get_args

Ingress = Literal["packet", "udp"]
"""How datagrams are received: as frames on packet sockets (packet(7)), or on UDP sockets."""
IngressChoice = Literal["auto", Ingress]
"""`auto` is packet with the right to it, else udp."""
Egress = Literal["auto", "socket", "xdp"]
"""How copies are sent: through UDP sockets, or through AF_XDP sockets. `auto` is xdp for outputs
that can use it while their datagrams form no batches, else socket."""
Offload = Literal["off", "auto", "require"]
"""Whether the kernel relays rules in place of the engine: no rule, those that it can, or all, so
that other rules are refused."""
Relayer = Literal["engine", "kernel"]
"""Who relays the datagrams of one rule now."""
Way = Literal["socket", "xdp"]
"""How the copies of one output leave now."""
Hosts = Literal["first", "all"]
"""Which addresses of a host name get copies."""
LogFormat = Literal["auto", "text", "json", "journal"]
"""How the daemon writes its log: lines with the time, JSON, or lines with priorities. `auto` is
journal where systemd's journal reads standard error, else lines without the time."""

Level = Literal[
    "trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"
]
LEVELS: tuple[Level, ...] = get_args(Level)
"""The severities of log records, the most verbose first: those of syslog(3), and trace."""

Facility = Literal[
    "supervisor",
    "control",
    "worker",
    "ingress",
    "egress",
    "pool",
    "parser",
    "rules",
    "stats",
    "interfaces",
    "security",
]
FACILITIES: tuple[Facility, ...] = get_args(Facility)
"""The subjects of log records, each of which can have a level of its own."""

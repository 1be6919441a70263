"""The choices that the library, the command line and the daemon offer alike."""

from typing import Literal

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

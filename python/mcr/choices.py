"""The choices that the library, the command line and the daemon offer alike."""

from typing import Literal

Ingress = Literal["packet", "udp"]
"""How datagrams are received: as frames on packet sockets (packet(7)), or on UDP sockets."""
IngressChoice = Literal["auto", Ingress]
"""`auto` is packet with the right to it, else udp."""
Hosts = Literal["first", "all"]
"""Which addresses of a host name get copies."""

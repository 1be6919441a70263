"""What this process may do, tried before anything is started, and taking what it is allowed.

Knows no children. Giving rights up is the native module's work.
"""

import os
import resource
import socket
from pathlib import Path
from typing import Literal

from ..errors import RightsError
from .setup import Ingress

NO_PACKET = (
    "CAP_NET_RAW is missing: the ingress is udp, which sees no VLAN tags and hears nothing that"
    " is not joined; for packet run as root, or grant the capability"
)


def choose_ingress(asked: Literal["auto", "packet", "udp"]) -> tuple[Ingress, str | None]:
    """Return the ingress for what was asked, and what the user should know about it.

    Raises:
        RightsError: `packet` was asked for, and AF_PACKET is refused (packet(7)).
    """
    if asked == "udp":
        return "udp", None
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError:
        if asked == "packet":
            raise RightsError("CAP_NET_RAW is missing: run as root, or use --ingress udp") from None
        return "udp", NO_PACKET
    return "packet", None


def raise_descriptor_limit() -> int:
    """Allow this process and its children as many descriptors as it may; return how many.

    Each output has a socket, and the supervisor a duplicate of it (RLIMIT_NOFILE, setrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    for wanted, ceiling in ((most, most), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, ceiling))
        except (OSError, ValueError):
            continue
        return wanted
    return soft


def fill_standard_descriptors() -> None:
    """Open /dev/null where standard input, output or error were closed.

    Else a socket would get one of these numbers, and a message for people would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one, as all below are taken.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)

"""What the topology tests need from the machine, and how to say that it is missing."""

import os
import shutil
import socket

from .namespaces import Net


def missing() -> str | None:
    """Why the tests cannot run here, or None."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return _no_namespaces() or _no_packet_sockets()


def _no_namespaces() -> str | None:
    try:
        with Net() as net, net.namespace():
            return None
    except (OSError, RuntimeError) as error:
        return f"network namespaces are refused: {error}"


def _no_packet_sockets() -> str | None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return f"AF_PACKET is refused (CAP_NET_RAW): {error}"
    return None

"""What the topology tests need from the machine, and how to say that it is missing."""

import ctypes
import os
import shutil
import socket

from .namespaces import Net

_SYS_IO_URING_SETUP = 425
_IO_URING_PARAMS_BYTES = 120


def missing() -> str | None:
    """Why the tests cannot run here, or None."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return _no_namespaces() or _no_packet_sockets() or _no_io_uring()


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


def _no_io_uring() -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    parameters = ctypes.create_string_buffer(_IO_URING_PARAMS_BYTES)
    ring: int = libc.syscall(_SYS_IO_URING_SETUP, 4, parameters)
    if ring < 0:
        return f"io_uring is refused (kernel.io_uring_disabled): {os.strerror(ctypes.get_errno())}"
    os.close(ring)
    return None

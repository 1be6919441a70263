"""Asks the kernel for the two things that mcr is best with, and names who refuses.

Without io_uring mcr relays by its engine `poll`, and without AF_PACKET by the ingress `udp` only.
The run goes on, except in CI (exit code 1), where nothing may be left out.
"""

import ctypes
import errno
import os
import socket
import sys
from pathlib import Path

IO_URING_SETUP = 425  # the same number on every architecture that Python 3.11 runs on
IO_URING_PARAMS_BYTES = 120  # struct io_uring_params
IO_URING_DISABLED = Path("/proc/sys/kernel/io_uring_disabled")


def io_uring_refusal() -> str | None:
    """Say why io_uring is refused, or return None where it works."""
    libc = ctypes.CDLL(None, use_errno=True)
    params = ctypes.create_string_buffer(IO_URING_PARAMS_BYTES)
    ring = libc.syscall(IO_URING_SETUP, 1, params)
    if ring >= 0:
        os.close(ring)
        return None
    code = ctypes.get_errno()
    setting = IO_URING_DISABLED.read_text().strip() if IO_URING_DISABLED.exists() else "0"
    if code == errno.EPERM and setting != "0":
        cure = "run: sysctl -w kernel.io_uring_disabled=0"
        return f"io_uring is refused by the sysctl kernel.io_uring_disabled={setting}; {cure}"
    if code in (errno.EPERM, errno.ENOSYS):
        who = "by a container's seccomp profile or an old kernel"
        cure = "allow io_uring_setup, io_uring_enter and io_uring_register in the profile"
        return f"io_uring is refused ({errno.errorcode[code]}) {who}; {cure}"
    return f"io_uring is refused: {os.strerror(code)}"


def packet_refusal() -> str | None:
    """Say why AF_PACKET is refused, or return None where it works."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        if os.geteuid() == 0:
            return "AF_PACKET is refused to root: give the container the capability CAP_NET_RAW"
        return "AF_PACKET is refused without the capability CAP_NET_RAW: what needs it is left out"
    except OSError as error:
        return f"AF_PACKET is refused ({error.strerror}), as by a container's seccomp profile"
    return None


def main() -> int:
    """Print at most one line for each refusal."""
    refusals = [refusal for refusal in (io_uring_refusal(), packet_refusal()) if refusal]
    for refusal in refusals:
        print(refusal, file=sys.stderr)
    return int(bool(refusals) and os.environ.get("CI") == "true")


if __name__ == "__main__":
    sys.exit(main())

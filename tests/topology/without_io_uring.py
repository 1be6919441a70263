"""Runs a program where the kernel refuses io_uring, as the default profiles of containers do.

`python without_io_uring.py PROGRAM ARGUMENT...`; all that the program starts is refused it as well.
"""

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

WITHOUT_IO_URING = (sys.executable, str(Path(__file__)))
"""What a command begins with, to run so."""
_CALLS = (425, 426, 427)  # io_uring_setup, _enter and _register, on every machine
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22
_MODE_FILTER = 2
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_io_uring() -> None:
    """Refuse io_uring to this process and all that it starts."""
    last = len(_CALLS)
    code = [(_LOAD_WORD, 0, 0, 0)]  # the number of the call
    code += [(_JUMP_IF_EQUAL, last - at, 0, call) for at, call in enumerate(_CALLS)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    content = b"".join(struct.pack("=HBBI", *each) for each in code)
    program = _Program(len(code), content)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    forbid_io_uring()
    os.execvp(sys.argv[1], sys.argv[1:])

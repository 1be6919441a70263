"""System calls in the name of another process: what an attacker who has taken it over would make.

Stops one thread by ptrace(2), has it make a call that the test chooses, with the registers of that
call, and lets it go on where it was. Knows nothing of mcr; needs root and an x86-64.
"""

import ctypes
import errno
import os
import platform
import time
from types import TracebackType
from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long

_CONTINUE, _SINGLESTEP, _GETREGS, _SETREGS = 7, 9, 12, 13
_DETACH, _SEIZE, _INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000
_SYSCALL = b"\x0f\x05"  # the instruction
_BELOW_STACK = 4096  # well below the red zone of 128 bytes
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
_ERRNO_MAX = 4095
_TRIES = 5000

CALLS = {
    "sendto": 44,
    "dup": 32,
    "socket": 41,
    "connect": 42,
    "bind": 49,
    "setsockopt": 54,
    "clone": 56,
    "fork": 57,
    "execve": 59,
    "kill": 62,
    "ptrace": 101,
    "mkdir": 83,
    "unlink": 87,
    "tgkill": 234,
    "openat": 257,
    "unshare": 272,
    "io_uring_setup": 425,
    "io_uring_register": 427,
    "pidfd_open": 434,
    "write": 1,
    "mmap": 9,
    "recvmsg": 47,
    "bpf": 321,
    "ioctl": 16,
    "getpid": 39,
    "fcntl": 72,
    "close": 3,
    "setuid": 105,
    "prctl": 157,
    "pidfd_getfd": 438,
}
"""The numbers of the calls on x86-64 (asm/unistd_64.h)."""


def why_not() -> str | None:
    """Why calls cannot be injected here, or None."""
    return None if platform.machine() == "x86_64" else "calls are injected on x86-64 only"


class _Registers(ctypes.Structure):
    """`struct user_regs_struct` (sys/user.h)."""

    _fields_ = tuple(
        (name, ctypes.c_ulonglong)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx"),
            *("rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss"),
            *("fs_base", "gs_base", "ds", "es", "fs", "gs"),
        )
    )


class Killed(Exception):
    """The process was killed by the call, or died as a consequence."""


class Injected:
    """The first thread of a process, stopped, for the time of a block."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._is_dead = False

    def __enter__(self) -> Self:
        """Stop the thread in a system call, in which it sleeps nearly always."""
        self._ask(_SEIZE)
        for _ in range(_TRIES):
            self._ask(_INTERRUPT)
            self._wait()
            self._saved = self._registers()
            if self._peek(self._saved.rip - len(_SYSCALL), len(_SYSCALL)) == _SYSCALL:
                return self
            self._ask(_CONTINUE)
            time.sleep(0.001)
        raise RuntimeError("the thread makes no system call")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it go on as if nothing had been."""
        if not self._is_dead:
            self._set(self._saved)
            self._ask(_DETACH)

    def call(self, name: str, *arguments: int | bytes) -> int:
        """Make a call; return what it returns, a negative errno where it fails.

        Args:
            name: one of `CALLS`.
            arguments: numbers; bytes are put into the process's memory, and their address is given.

        Raises:
            Killed: the process is no more.
        """
        place = self._saved.rsp - _BELOW_STACK
        registers = _Registers.from_buffer_copy(self._saved)
        registers.rip -= len(_SYSCALL)
        registers.rax = CALLS[name]
        registers.orig_rax = 2**64 - 1  # so that nothing is taken up again
        for register, argument in zip(_ARGUMENTS, arguments, strict=False):
            if isinstance(argument, bytes):
                place -= (len(argument) + 15) & ~15
                self._poke(place, argument)
                setattr(registers, register, place)
            else:
                setattr(registers, register, argument % 2**64)
        self._set(registers)
        self._ask(_SINGLESTEP)
        self._wait()
        result = ctypes.c_longlong(self._registers().rax).value
        assert result >= -_ERRNO_MAX or result >= 0
        return result

    def get(self, address: int, count: int) -> bytes:
        """Read the process's memory."""
        return self._peek(address, count)

    def put(self, address: int, content: bytes) -> None:
        """Write to the process's memory."""
        self._poke(address, content)

    def _wait(self) -> None:
        _pid, status = os.waitpid(self.pid, _WALL)
        if os.WIFSIGNALED(status) or os.WIFEXITED(status):
            self._is_dead = True
            raise Killed(os.waitstatus_to_exitcode(status))

    def _registers(self) -> _Registers:
        registers = _Registers()
        self._ask(_GETREGS, ctypes.addressof(registers))
        return registers

    def _set(self, registers: _Registers) -> None:
        self._ask(_SETREGS, ctypes.addressof(registers))

    def _peek(self, address: int, count: int) -> bytes:
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(count)

    def _poke(self, address: int, content: bytes) -> None:
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(address)
            assert memory.write(content) == len(content)

    def _ask(self, request: int, data: int = 0) -> None:
        if _libc.ptrace(request, self.pid, 0, data) < 0:
            number = ctypes.get_errno()
            if number == errno.ESRCH:  # killed meanwhile; its parent hears of it once we have
                self._wait()
            raise OSError(number, f"ptrace {request}: {os.strerror(number)}")

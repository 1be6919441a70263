"""The rights of a confined control process: those for its work, and no others."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NOBODY = 65534
NONE = "0000000000000000"
ALL_HIDDEN = "landlock hides files, TCP, sockets and processes"

# Begins as a control process does: with what it needs loaded, as Python may be installed where
# nobody but its owner can read.
BEGIN = """
import asyncio, ctypes, json, os, socket, sys
import concurrent.futures.thread, encodings.idna
from mcr import _native
supervisor, listener, path, user = json.loads(sys.argv[1])
listener = socket.socket(fileno=listener)
directory = os.path.dirname(path)
hidden = _native.confine_control(user, user, supervisor, [directory], [path])
def tell(**told):
    print(json.dumps(told), flush=True)
"""

WORKS = """
async def answer(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
async def serve():
    server = await asyncio.start_unix_server(answer, sock=listener)
    thread = await asyncio.to_thread(json.loads, '"one"')
    names = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    tell(hidden=hidden, thread=thread, names=[name[4][0] for name in names])
    await asyncio.to_thread(sys.stdin.readline)
    server.close()
asyncio.run(serve())
ctypes.CDLL("libresolv.so.2")  # as modules of the name service are loaded
sys.path.append(directory)
import later
memory = os.memfd_create("rules", os.MFD_ALLOW_SEALING)
os.write(memory, b"rules")
near, far = socket.socketpair()
socket.send_fds(near, [b"K"], [memory])
_, (again,), *_ = socket.recv_fds(far, 1, 1)
os.lseek(again, 0, os.SEEK_SET)
os.unlink(path)
interfaces = [found.name for found in _native.interfaces()]
tell(rules=os.read(again, 9).decode(), interfaces=interfaces, later=later.NAME)
"""

TRIES = """
libc = ctypes.CDLL(None, use_errno=True)
def other_thread():
    # pthread_kill takes threads of this process only; this is what it calls.
    if libc.tgkill(supervisor, supervisor, 0):
        raise OSError(ctypes.get_errno(), "tgkill")
def inet(kind, protocol=0):
    return socket.socket(socket.AF_INET, kind, protocol)
def error_of(what):
    try:
        what()
    except OSError as error:
        return error.errno
tries = {
    "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "a raw socket": lambda: inet(socket.SOCK_RAW, socket.IPPROTO_RAW),
    "the kernel's ciphers": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "a port": lambda: inet(socket.SOCK_DGRAM).bind(("127.0.0.1", 0)),
    "a TCP connection": lambda: inet(socket.SOCK_STREAM).connect(("127.0.0.1", 9)),
    "another's file": lambda: open("/proc/1/status"),
    "a device": lambda: open("/dev/null", "rb"),
    "a new file": lambda: open(path + ".new", "w"),
    "a directory": lambda: os.mkdir(path + ".new"),
    "a process": os.fork,
    "a signal to the supervisor": lambda: os.kill(supervisor, 0),
    "a signal to its group": lambda: os.killpg(0, 0),
    "a signal to its thread": other_thread,
    "another user": lambda: os.setuid(0),
    "a better place": lambda: os.nice(-1),
}
tell(hidden=hidden)
tell(**{name: error_of(what) for name, what in tries.items()})
sys.stdin.readline()
"""


@contextmanager
def control(script: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a process confined like control, with a socket that it serves and may remove."""
    user = NOBODY if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        Path(directory).chmod(0o777)
        Path(directory, "later.py").write_text("NAME = 'module'")
        path = Path(directory, "mcr.sock")
        listener.bind(str(path))
        arguments = json.dumps([os.getpid(), listener.fileno(), str(path), user])
        with subprocess.Popen(
            [sys.executable, "-I", "-c", BEGIN + script, arguments],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process, path
            finally:
                process.kill()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next report of the process."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait()}"
    told: dict[str, Any] = json.loads(line)
    return told


def test_control_does_its_work_under_the_filter() -> None:
    """It serves clients, resolves names in threads, loads modules and passes files on."""
    with control(WORKS) as (process, path):
        first = told(process)
        assert "landlock" in first["hidden"]
        assert (first["thread"], "127.0.0.1" in first["names"]) == ("one", True)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"ping\n")
            assert client.recv(9) == b"ping\n"
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        last = told(process)
        assert (last["rules"], last["later"]) == ("rules", "module")
        assert last["interfaces"] == [name for _, name in socket.if_nameindex()]
        assert not path.exists()
        assert process.wait() == 0


def test_control_can_do_nothing_else() -> None:
    """Other operations are refused, and it has no right that could permit them."""
    with control(TRIES) as (process, _):
        # The filter sees no path and no address.
        landlocked = {"another's file", "a device", "a TCP connection"}
        open_here = set() if told(process)["hidden"] == ALL_HIDDEN else landlocked
        refused = {errno.EPERM, errno.EACCES}
        possible = {name for name, number in told(process).items() if number not in refused}
        assert possible <= open_here
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        sets = ("CapInh", "CapPrm", "CapEff", "CapAmb")
        assert {status[name] for name in sets} == {NONE}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        if os.geteuid() == 0:
            assert (status["CapBnd"], status["Groups"].strip()) == (NONE, "")
            assert status["Uid"].split() == status["Gid"].split() == [str(NOBODY)] * 4
    if possible:
        pytest.skip(f"this kernel has too little of landlock to refuse: {', '.join(possible)}")


@pytest.mark.parametrize("call", ["execve", "unshare", "ptrace", "keyctl"])
def test_calls_that_only_an_attacker_makes_kill(call: str) -> None:
    """A program, a namespace, a look into another process: there is no second attempt."""
    scripts = {
        "execve": "os.execv('/bin/true', ['true'])",
        "unshare": "ctypes.CDLL(None).unshare(0x40000000)",
        "ptrace": "ctypes.CDLL(None).ptrace(16, supervisor, 0, 0)",
        "keyctl": "ctypes.CDLL(None).syscall({'x86_64': 250}.get(os.uname().machine, 219), 0, 0)",
    }
    with control(scripts[call]) as (process, _):
        assert process.wait(30) == -signal.SIGSYS


def test_a_process_that_is_not_the_supervisors_child_is_refused() -> None:
    """The supervisor may have died before its child could request to die with it."""
    script = "from mcr import _native; _native.confine_control(None, None, 1, [], [])"
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False
    )
    assert "RightsError: the supervisor (process 1) is not the parent any more" in run.stderr


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("any_file", [False, True])
def test_a_supervisor_keeps_few_capabilities(any_file: bool, offload: bool) -> None:
    """Those that docs/security.md names, and no way to get others."""
    script = f"""
from mcr import _native
_native.shrink_supervisor({any_file}, {offload})
print(open("/proc/self/status").read())
"""
    run = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    lines = run.stdout.strip().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    # KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, IPC_LOCK; and
    # DAC_OVERRIDE, PERFMON, BPF.
    numbers = [5, 6, 7, 8, 10, 12, 13, 14] + [1] * any_file + [38, 39] * offload
    kept = f"{sum(1 << number for number in numbers):016x}" if os.geteuid() == 0 else NONE
    assert (status["CapEff"], status["CapPrm"]) == (kept, kept)
    assert (status["CapInh"], status["CapAmb"], status["NoNewPrivs"]) == (NONE, NONE, "1")
    if os.geteuid() == 0:
        assert status["CapBnd"] == kept

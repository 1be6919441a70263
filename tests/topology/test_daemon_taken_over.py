"""Somebody has taken a process of the daemon over: the calls that it could make, made in its name.

By ptrace, in the very processes that relay; what a call is refused with is what an attacker gets.
"""

import contextlib
import errno
import os
import pwd
import re
import socket
import struct
from pathlib import Path

import pytest
from tests.support.broker_messages import HELLO
from tests.support.deadline import wait_until
from tests.support.processes import is_running

from .checks import assert_balanced
from .daemons import Daemon, serving
from .deaths import descriptors
from .injection import Injected, Killed, why_not
from .lab import Lab
from .traffic import payloads

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

USER = next(user for user in pwd.getpwall() if user.pw_uid not in {0, 65534})
Calls = dict[str, tuple[str, *tuple[int | bytes, ...]]]
RULE = "239.1.92.1%in0:5001 to 239.2.92.1%out0:6001"
REFUSED = {-errno.EPERM, -errno.EACCES}
SO_ATTACH_FILTER, SOL_PACKET, SO_BINDTODEVICE = 26, 263, 25
PACKET_ADD_MEMBERSHIP, PACKET_TX_RING, PACKET_FANOUT = 1, 13, 18
AT_FDCWD = -100
F_DUPFD = 0
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS = 1, 2, 32
SIOCSIFFLAGS, TIOCSTI = 0x8914, 0x5412
PAGE = 4096
CLONE_NEWNET, SIGCHLD = 0x40000000, 17
LINK_LAYER = struct.pack("HHiHBB8s", socket.AF_PACKET, 0x0300, 1, 0, 0, 0, b"")
LOCALHOST = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 53, bytes([127, 0, 0, 1]))
ALL_FRAMES = struct.pack("iHH8s", 1, 1, 0, b"")  # promiscuous
RING_REGISTERS = 40
FRAME = bytes(60)
DONTWAIT = socket.MSG_DONTWAIT


def relay_all(lab: Lab, daemon: Daemon, seed: int) -> None:
    """Check that all datagrams sent now arrive."""
    sent = payloads(100, seed=seed)
    with (
        lab.receive("239.2.92.1", 6001) as receiver,
        lab.sender("239.1.92.1", 5001) as sender,
        daemon.client() as client,
    ):
        sender.send(sent)
        receiver.expect(sent)
        assert_balanced(client.stats())


def packet_socket(lab: Lab, pid: int) -> int:
    """A worker's descriptor of an AF_PACKET socket."""
    inodes = re.findall(r" (\d+)\n", lab.relay.proc_net("packet"))
    for number, target in descriptors(pid).items():
        if target[8:-1] in inodes:
            return number
    raise AssertionError("the worker has no packet socket")


def open_sockets() -> Calls:
    """Calls that would open privileged sockets, or change the process's identity."""
    raw, dgram = socket.SOCK_RAW, socket.SOCK_DGRAM
    return {
        "a packet socket": ("socket", socket.AF_PACKET, raw, 0),
        "a packet socket of datagrams": ("socket", socket.AF_PACKET, dgram, 0x0300),
        "a raw socket": ("socket", socket.AF_INET, raw, socket.IPPROTO_RAW),
        "a raw IPv6 socket": ("socket", socket.AF_INET6, raw, socket.IPPROTO_UDP),
        "a file to write": (
            "openat",
            AT_FDCWD,
            b"/tmp/mcr-taken-over\0",
            os.O_CREAT | os.O_RDWR,
            0o600,
        ),
        "its own memory": ("openat", AT_FDCWD, b"/proc/self/mem\0", os.O_RDWR, 0),
        "a secret": ("openat", AT_FDCWD, b"/etc/shadow\0", os.O_RDONLY, 0),
        "a directory": ("mkdir", b"/tmp/mcr-taken-over\0", 0o700),
        "a process": ("fork",),
        "another process": ("clone", SIGCHLD, 0, 0, 0, 0),
        "root": ("setuid", 0),
        "memory to write and run": (
            *("mmap", 0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC),
            *(MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        ),
        "typing for a terminal": ("ioctl", 2, TIOCSTI, b"x"),
        "an interface taken down": ("ioctl", 8, SIOCSIFFLAGS, bytes(40)),
    }


def of_a_worker(foreign: int) -> Calls:
    """Calls refused to a worker only, most of them on its packet socket."""
    pointer = bytes(16)
    return {
        "a UDP socket": ("socket", socket.AF_INET, socket.SOCK_DGRAM, 0),
        "a Unix socket": ("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        "a netlink socket": ("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "a file to read": ("openat", AT_FDCWD, b"/etc/hostname\0", os.O_RDONLY, 0),
        "binding elsewhere": ("bind", foreign, LINK_LAYER, len(LINK_LAYER)),
        "connecting": ("connect", foreign, LOCALHOST, len(LOCALHOST)),
        "another filter": ("setsockopt", foreign, socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer, 16),
        "all frames": (
            *("setsockopt", foreign, SOL_PACKET, PACKET_ADD_MEMBERSHIP),
            *(ALL_FRAMES, len(ALL_FRAMES)),
        ),
        "another fan-out group": ("setsockopt", foreign, SOL_PACKET, PACKET_FANOUT, pointer, 4),
        "sending given back": ("setsockopt", foreign, SOL_PACKET, PACKET_TX_RING, pointer, 16),
        "a frame": ("sendto", foreign, FRAME, len(FRAME), 0, LINK_LAYER, len(LINK_LAYER)),
        "a frame by write": ("write", foreign, FRAME, len(FRAME)),
        "the ring of sending": (
            "mmap",
            0,
            PAGE,
            PROT_READ | PROT_WRITE,
            MAP_SHARED,
            foreign,
            0,
        ),
        "a low number": ("dup", foreign),
        "a low number by fcntl": ("fcntl", foreign, F_DUPFD, 0),
        "the supervisor channel closed": ("close", 3),
        "a ring that does more": ("io_uring_register", 13, RING_REGISTERS, 0, 0),
        "a file of a ring": ("io_uring_register", 13, 2, 0, 0),
        "a process's handle": ("pidfd_open", 1, 0),
    }


def assert_refused(pid: int, calls: Calls) -> None:
    """Check that each call is refused, and that the process continues."""
    possible = {}
    with Injected(pid) as inside:
        assert inside.call("getpid") == pid
        for what, (name, *arguments) in calls.items():
            result = inside.call(name, *arguments)
            if result not in REFUSED:
                possible[what] = result
    assert possible == {}


def signals(*others: int) -> Calls:
    """Signals to other processes, and to all."""
    calls: Calls = {}
    for pid in (*others, -1, 0):
        calls[f"signal to {pid}"] = ("kill", pid, 0)
        calls[f"end of {pid}"] = ("kill", pid, 9)
        calls[f"end of the thread {pid}"] = ("tgkill", pid, pid, 9)
    return calls


def test_a_worker_can_do_nothing_but_its_work(lab: Lab) -> None:
    """Open, bind, reconfigure, inject, start, signal: refused; it relays before and after."""
    arguments = ("--ingress", "packet", "--workers", "2", "--user", USER.pw_name)
    with serving(lab.relay, *arguments) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        relay_all(lab, daemon, 1)
        supervisor, control, worker, other = daemon.processes
        for pid in (worker, other):
            assert_refused(pid, open_sockets() | of_a_worker(packet_socket(lab, pid)))
        assert_refused(worker, signals(supervisor, control, other))
        relay_all(lab, daemon, 2)
        assert daemon.processes == [supervisor, control, worker, other]
        assert not Path("/tmp/mcr-taken-over").exists()


def test_control_can_do_nothing_but_serve(lab: Lab) -> None:
    """It may open Unix and UDP sockets, and read public files; nothing else."""
    arguments = ("--workers", "2", "--user", USER.pw_name)
    with serving(lab.relay, *arguments) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        supervisor, control, *workers = daemon.processes
        bound: Calls = {
            "a device": ("openat", AT_FDCWD, b"/dev/null\0", os.O_RDONLY, 0),
            "another's status": ("openat", AT_FDCWD, b"/proc/1/status\0", os.O_RDONLY, 0),
            "a port": ("bind", 9, LOCALHOST, len(LOCALHOST)),
            "another process's socket": (
                "setsockopt",
                9,
                socket.SOL_SOCKET,
                SO_BINDTODEVICE,
                b"in0\0",
                4,
            ),
        }
        assert_refused(control, open_sockets() | signals(supervisor, *workers) | bound)
        relay_all(lab, daemon, 3)
        assert daemon.processes == [supervisor, control, *workers]


FATAL: dict[str, tuple[int | bytes, ...]] = {
    "execve": (b"/bin/true\0", 0, 0),
    "unshare": (CLONE_NEWNET,),
    "ptrace": (16, 1, 0, 0),
    "io_uring_setup": (8, bytes(120)),
    "pidfd_getfd": (3, 3, 0),
    "bpf": (5, bytes(120), 120),
}


@pytest.mark.parametrize("call", FATAL)
def test_calls_that_only_an_attacker_makes_kill_the_worker(lab: Lab, call: str) -> None:
    """There is no second attempt: the next worker relays, and the cause is reported."""
    with serving(lab.relay, "--user", USER.pw_name) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        (worker,) = daemon.workers
        with contextlib.suppress(Killed), Injected(worker) as inside:
            result = inside.call(call, *FATAL[call])
            pytest.fail(f"{call} gave {result}")
        wait_until(lambda: not is_running(worker))
        wait_until(lambda: client.workers()[0].pid not in {None, worker})
        death = client.workers()[0].last_death
        assert death is not None
        assert "SIGSYS" in death.cause
        wait_until(lambda: client.rules().rules[0].state != "waiting")
        relay_all(lab, daemon, 4)


# What it says to the others.

LEASH, BROKER, CHANNEL = 3, 4, 6
"""A worker's connections to the supervisor, to its broker and to control, by their numbers."""
LONG = bytes(60_000)


def merger(port: int) -> bytes:
    """Request a helper socket for any interface from the broker."""
    return bytes([8, 1]) + port.to_bytes(2, "little")


def xdp_link(ifindex: int, name: str, queue: int) -> bytes:
    """Ask the broker for an AF_XDP socket on a transmit queue."""
    interface = struct.pack("<IH", ifindex, len(name)) + name.encode()
    return bytes([23]) + interface + queue.to_bytes(4, "little")


def xdp_memory(lease: int) -> bytes:
    """Ask the broker for the memory of its frames."""
    return bytes([24]) + lease.to_bytes(8, "little")


WORDS: dict[str, tuple[int, list[bytes]]] = {
    "nonsense to the supervisor": (LEASH, [b"nonsense"]),
    "what only control may say": (LEASH, [bytes([ord("R"), *bytes(6)])]),
    "nonsense to the broker": (BROKER, [b"nonsense"]),
    "too long to the broker": (BROKER, [LONG]),
    "a count without its items": (BROKER, [bytes([15, 0xFF, 0xFF])]),
    "a descriptor that is none of its own": (BROKER, [bytes([15, 1, 0]) + bytes([255] * 8)]),
    "an interface of another name": (BROKER, [bytes([7, 1, 0, 0, 0, 20, 0]) + b"x" * 38]),
    "the queue of another worker": (BROKER, [xdp_link(1, "lo", 77)]),
    "an AF_XDP socket on no interface": (BROKER, [xdp_link(0, "lo", 0)]),
    "memory of no AF_XDP socket": (BROKER, [xdp_memory(1 << 40)]),
    "questions and no ear": (BROKER, [HELLO] * 2000),
    "nonsense to control": (CHANNEL, [b"\x08\0\0\0nonsense"]),
    "a message without an end to control": (CHANNEL, [b"\xff\xff\xff\xff"]),
    "an answer to nothing": (CHANNEL, [b'\x10\0\0\0{"id":77,"ok":{}}']),
}


@pytest.mark.parametrize("words", WORDS)
def test_any_messages_of_a_worker_kill_only_itself(lab: Lab, words: str) -> None:
    """Its successor relays, and the other worker's flow continues."""
    number, messages = WORDS[words]
    arguments = ("--ingress", "udp", "--workers", "2", "--user", USER.pw_name)
    with serving(lab.relay, *arguments) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        relay_all(lab, daemon, 5)
        counted = [sum(each.matched for each in client.stats().rules)]
        supervisor, control, *workers = daemon.processes
        # By udp one worker has the flow; the other one speaks.
        deaf = next(at for at, pid in enumerate(workers) if opened_datagrams(lab, pid) == 0)
        with contextlib.suppress(Killed), Injected(workers[deaf]) as inside:
            for message in messages:
                if inside.call("sendto", number, message, len(message), DONTWAIT, 0, 0) < 0:
                    break
        wait_until(lambda: not is_running(workers[deaf]))
        relay_all(lab, daemon, 6)
        wait_until(lambda: client.workers()[deaf].state == "running", 15)
        relay_all(lab, daemon, 7)
        now = daemon.processes
        assert (now[0], now[1], now[3 - deaf]) == (supervisor, control, workers[1 - deaf])
        wait_until(lambda: client.stats().rules[0].matched == counted[0] + 200)


def opened_datagrams(lab: Lab, pid: int) -> int:
    """The number of sockets of a process that receive the rule's datagrams."""
    inodes = re.findall(
        r": [0-9A-F]+:1389 .* (\d{5,}) \d+ [0-9a-f]{16} ", lab.relay.proc_net("udp")
    )
    links = descriptors(pid).values()
    return sum(f"socket:[{inode}]" in links for inode in inodes)


@pytest.mark.parametrize("message", [b"nonsense", b"R\xff\xff\1\0\0\0", b"K"])
def test_any_messages_of_control_harm_no_flow(lab: Lab, message: bytes) -> None:
    """The supervisor kills it, its successor has the rules, and workers are not affected."""
    with serving(lab.relay, "--user", USER.pw_name) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        supervisor, control, worker = daemon.processes
        pairs = re.findall(r" 0005 03\s+(\d+)", lab.relay.proc_net("unix"))
        fds = {target: number for number, target in descriptors(control).items()}
        supervisor_channel = next(
            fds[name] for each in pairs if (name := f"socket:[{each}]") in fds
        )
        with contextlib.suppress(Killed), Injected(control) as inside:
            assert (
                inside.call("sendto", supervisor_channel, message, len(message), DONTWAIT, 0, 0) > 0
            )
        wait_until(lambda: not is_running(control))
        relay_all(lab, daemon, 8)
        assert [rule.name for rule in client.rules().rules] == [None]
        now = daemon.processes
        assert (now[0], now[2]) == (supervisor, worker)
        assert now[1] != control


AF_XDP, SOL_XDP, XDP_RX_RING, XDP_SHARED_UMEM_FD = 44, 283, 2, 0
XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING = 0x8000_0000, 0x1_8000_0000
XDP_UMEM_PGOFF_FILL_RING = 0x1_0000_0000
FRAMES, FRAME_BYTES = 2048, 2048


def ask_broker(inside: Injected, request: bytes) -> tuple[bytes, int]:
    """Send a request in the worker's name; return the answer and the descriptor that came with it.

    The descriptor is -1 if there is none.
    """
    place = inside.call("mmap", 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    text, control, vector, header = (place + at for at in (0, 2048, 2304, 2560))
    inside.put(vector, struct.pack("QQ", text, 2048))
    inside.put(header, struct.pack("QI4xQQQQi4x", 0, 0, vector, 1, control, 256, 0))
    assert inside.call("sendto", BROKER, request, len(request), DONTWAIT, 0, 0) == len(request)
    length = inside.call("recvmsg", BROKER, header, 0)
    assert length > 0
    # struct cmsghdr: length, level, type, then the number.
    size, _level, _kind, number = struct.unpack("Qiii", inside.get(control, 20))
    return inside.get(text, length), number if size else -1


def of_a_link(link: int, other: int) -> Calls:
    """What would make more of an AF_XDP socket that the worker was handed."""
    elsewhere = struct.pack("HHIII", AF_XDP, 0, other, 0, XDP_SHARED_UMEM_FD)
    shared = (PROT_READ | PROT_WRITE, MAP_SHARED, link)
    return {
        "another AF_XDP socket": ("socket", AF_XDP, socket.SOCK_RAW, 0),
        "another interface": ("bind", link, elsewhere, len(elsewhere)),
        "a link bound to a device": (
            *("setsockopt", link, socket.SOL_SOCKET, SO_BINDTODEVICE),
            *(b"in0\0", 4),
        ),
        "receiving": ("setsockopt", link, SOL_XDP, XDP_RX_RING, struct.pack("I", 64), 4),
        "a frame": ("sendto", link, FRAME, len(FRAME), DONTWAIT, 0, 0),
        "a frame to an address": ("sendto", link, 0, 0, DONTWAIT, elsewhere, len(elsewhere)),
        "a frame by write": ("write", link, FRAME, len(FRAME)),
        "the ring of receiving": ("mmap", 0, PAGE, *shared, 0),
        "the ring of free memory": ("mmap", 0, PAGE, *shared, XDP_UMEM_PGOFF_FILL_RING),
    }


def test_an_xdp_link_sends_on_its_interface_and_does_nothing_else(lab: Lab) -> None:
    """A worker gets one from the broker, sends through it, and can make nothing else of it."""
    with serving(lab.relay, "--user", USER.pw_name) as daemon, daemon.client() as client:
        client.add_rule(RULE)
        relay_all(lab, daemon, 9)
        (worker,) = daemon.workers
        ifindex = {name: lab.relay.ifindex(name) for name in ("in0", "out0")}
        with Injected(worker) as inside:
            answer, link = ask_broker(inside, xdp_link(ifindex["in0"], "in0", 0))
            assert answer[0] == 10, answer
            lease, frames, frame_bytes = struct.unpack("<QII", answer[1:])
            assert (frames, frame_bytes) == (FRAMES, FRAME_BYTES)
            _answer, memory = ask_broker(inside, xdp_memory(lease))
            assert min(link, memory) >= 32
            again, none = ask_broker(inside, xdp_link(ifindex["in0"], "in0", 0))
            assert (again[0], none) == (12, -1), "a queue has one socket"
            shared = (PROT_READ | PROT_WRITE, MAP_SHARED)
            for fd, length, offset in (
                (memory, FRAMES * FRAME_BYTES, 0),
                (link, PAGE, XDP_PGOFF_TX_RING),
                (link, PAGE, XDP_UMEM_PGOFF_COMPLETION_RING),
            ):
                assert inside.call("mmap", 0, length, *shared, fd, offset) > 0
            assert inside.call("sendto", link, 0, 0, DONTWAIT, 0, 0) == 0
        assert_refused(worker, of_a_link(link, ifindex["out0"]))
        relay_all(lab, daemon, 10)
        assert daemon.workers == [worker]

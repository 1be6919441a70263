"""Fake control and workers of a real supervisor: they speak its channels and keep a journal.

Run as `python fake_children.py worker|control ARGUMENTS`. Everything goes as JSON lines into the
file that the arguments name as `journal`. The fake control takes orders, a line each, from whoever
connects to the daemon's socket.
"""

import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

HEARTBEAT_S = 0.2
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_PR_SET_PDEATHSIG = 1


class Journal:
    """The file to which all processes of a test write."""

    def __init__(self, told: dict[str, Any], who: str) -> None:
        """Open it; lines appended by several processes do not mix."""
        self._file = os.open(told["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self._who = who

    def note(self, what: str, **fields: object) -> None:
        """Write an entry."""
        entry = {"who": self._who, "pid": os.getpid(), "at": time.monotonic(), "what": what}
        os.write(self._file, json.dumps({**entry, **fields}).encode() + b"\n")


def identity(descriptor: int) -> list[int]:
    """The device and inode of a file."""
    status = os.fstat(descriptor)
    return [status.st_dev, status.st_ino]


def descriptors() -> list[int]:
    """The open descriptors, except the one that Python opens to list them."""
    return sorted(number for name in os.listdir("/proc/self/fd") if is_open(number := int(name)))


def is_open(number: int) -> bool:
    """Whether a descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def memory(content: bytes, seals: int = SEALS) -> int:
    """A sealed memfd."""
    descriptor = os.memfd_create("fake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def fake_worker(told: dict[str, Any]) -> int:
    """Send heartbeats and execute messages until the supervisor channel ends."""
    journal = Journal(told, f"worker {told['number']}")
    journal.note("start", page=identity(told["page"]), open=descriptors(), told=told)
    crash = Path(told["journal"]).with_name(f"crash-{told['number']}")
    if crash.exists():
        return int(crash.read_text())
    supervisor_channel = socket.socket(fileno=told["supervisor_channel"])
    broker = socket.socket(fileno=told["broker"])
    threading.Thread(target=_send_heartbeats, args=(supervisor_channel,), daemon=True).start()
    while True:
        content, passed, _, _ = socket.recv_fds(supervisor_channel, 64, 4)
        if not content:
            journal.note("supervisor channel ended")
            return 0
        assert content == b"C", content
        channel = socket.socket(fileno=passed[0])
        journal.note("channel", channel=identity(passed[0]))
        channel.sendall(f"worker {told['number']} {os.getpid()}\n".encode())
        threading.Thread(
            target=_handle_control, args=(channel, supervisor_channel, broker), daemon=True
        ).start()


def _send_heartbeats(supervisor_channel: socket.socket) -> None:
    while True:
        supervisor_channel.send(b"P")
        time.sleep(HEARTBEAT_S)


def _handle_control(
    channel: socket.socket, supervisor_channel: socket.socket, broker: socket.socket
) -> None:
    for line in channel.makefile():
        match line.split():
            case ["broker", text]:
                broker.send(text.encode())
            case ["supervisor_channel", text]:
                supervisor_channel.send(text.encode())
            case ["hang-up"]:
                broker.shutdown(socket.SHUT_RDWR)


class FakeControl:
    """Control without clients: it serves the supervisor channel and carries out orders of tests."""

    def __init__(self, told: dict[str, Any]) -> None:
        """Begin to listen to the supervisor channel and to clients."""
        self.journal = Journal(told, "control")
        self.supervisor_channel = socket.socket(fileno=told["supervisor_channel"])
        self.listener = socket.socket(fileno=told["listener"])
        self.rules = b"[]"
        self.channels: dict[int, socket.socket] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.supervisor_channel, selectors.EVENT_READ, self.told)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.serving = True
        self.mode = told["mode"]

    def run(self) -> int:
        """Send two heartbeats a second and answer messages, until the end."""
        while self.serving:
            self.supervisor_channel.send(b"P")
            for key, _ in self.selector.select(HEARTBEAT_S):
                key.data()
        return 0

    def told(self) -> None:
        """Handle a message of the supervisor."""
        content, passed, _, _ = socket.recv_fds(self.supervisor_channel, 65536, 4)
        if not content:
            self.journal.note("supervisor channel ended")
            self.serving = False
            return
        if content[:1] == b"k":
            self.journal.note("kept", answer=content[1])
            return
        message = json.loads(content)
        found = None
        if message["kind"] in {"restore", "config"} and passed:
            found = os.read(passed[0], 1 << 20).decode()
            os.close(passed[0])
            if message["kind"] == "config":
                contents = unpacked(found)
                found, self.rules = "".join(contents), contents[0].encode()
            else:
                self.rules = found.encode()
        if message["kind"] == "worker":
            channel = socket.socket(fileno=passed[0])
            found = channel.recv(100).decode().strip()
            self.channels[message["number"]] = channel
        self.journal.note("told", message=message, content=found)
        if message["kind"] == "begin" and self.mode == "refusing":
            os._exit(78)
        if message["kind"] == "begin" and self.mode != "silent":
            self.supervisor_channel.send(b"Y" + struct.pack("<I", len(json.loads(self.rules))))
        if message["kind"] == "drain" and self.mode != "stubborn":
            self.supervisor_channel.send(b"D")
            self.serving = False

    def accept(self) -> None:
        """Serve one client: orders, one per line, answered when they are carried out."""
        client, _ = self.listener.accept()
        with client, client.makefile("rw") as lines:
            for line in lines:
                self.order(*line.split())
                lines.write("done\n")
                lines.flush()

    def order(self, what: str, *words: str) -> None:
        """Carry out an order of a test."""
        match what:
            case "keep":
                self.rules = words[0].encode()
                socket.send_fds(self.supervisor_channel, [b"K"], [memory(self.rules)])
            case "load":
                patterns = "\n".join(words).encode()
                socket.send_fds(self.supervisor_channel, [b"L"], [memory(patterns)])
            case "keep-unsealed":
                socket.send_fds(self.supervisor_channel, [b"K"], [memory(b"[]", 0)])
            case "raw":
                self.supervisor_channel.send(bytes.fromhex(words[0]))
            case "exit":
                os._exit(int(words[0]))
            case "tell":
                self.channels[int(words[0])].sendall(" ".join(words[1:]).encode() + b"\n")


def unpacked(pack: str) -> list[str]:
    """The contents of the files of a configuration."""
    contents = []
    while pack:
        _name, size, pack = pack.split("\n", 2)
        contents.append(pack[: int(size)])
        pack = pack[int(size) :]
    return contents


def main() -> int:
    """Run as the process that the command line names."""
    told = json.loads(sys.argv[2])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != told["supervisor"]:
        return 1
    if sys.argv[1] == "worker":
        return fake_worker(told)
    crash = Path(told["journal"]).with_name("crash-control")
    return int(crash.read_text()) if crash.exists() else FakeControl(told).run()


if __name__ == "__main__":
    sys.exit(main())

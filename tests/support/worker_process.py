"""A worker process as its supervisor starts it, and the two ends that it is spoken to by.

Plays supervisor and control. Knows the messages, and no more of the worker than these.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self

from mcr import _native
from mcr.rules import parse_rules
from mcr.rules.hostnames import HostResolver
from mcr.rules.ruleset import RuleSet
from mcr.rules.spec import ResolvedRule, output_spec, spec_members

BOOT = """
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader

loader = ExtensionFileLoader("mcr._native", sys.argv[1])
native = module_from_spec(spec_from_loader("mcr._native", loader))
loader.exec_module(native)
sys.exit(native.run_worker(sys.argv[2]))
"""
PATIENCE_S = 10.0
Json = dict[str, Any]
Ingress = Literal["packet", "udp"]


class WorkerRefusal(Exception):
    """The worker refused; `failure` has the reason."""

    def __init__(self, failure: Json) -> None:
        super().__init__(failure["message"])
        self.failure = failure


class WorkerClient:
    """Control's end of the channel to a worker, and the worker's page of counters."""

    _keys: ClassVar[dict[str, bytes]] = {}
    """Those of the outputs of each rule, also for the clients that follow."""

    def __init__(self, end: socket.socket, pages: _native.CounterPages) -> None:
        self.socket = end
        self._pages = pages
        self.events: list[Json] = []
        self._bytes = b""
        self._id = 0

    def ask(self, do: str, **members: object) -> Json:
        """Send a request and return the `ok` member of its answer."""
        number = self.say(do, **members)
        answer = self.hear()
        assert answer["id"] == number, answer
        if "error" in answer:
            raise WorkerRefusal(answer["error"])
        ok: Json = answer["ok"]
        return ok

    def counters(self, ingress: str) -> Json:
        """The counters of the interfaces, and of the worker's rules with one output each."""
        reading = self._pages.read()
        rules = self.ask("hello")["rules"]
        return {
            "interfaces": reading.interfaces(ingress),
            "rules": [
                reading.rule(rule_id, True, [None], self._keys[rule_id]) for rule_id in rules
            ],
        }

    def say(self, do: str, **members: object) -> int:
        """Send a request without waiting; return its number."""
        self._id += 1
        self.send(json.dumps({"id": self._id, "do": do, **members}).encode())
        return self._id

    def send(self, message: bytes) -> None:
        """Send one frame."""
        self.socket.sendall(len(message).to_bytes(4, "little") + message)

    def hear(self, seconds: float = PATIENCE_S) -> Json:
        """Receive the next answer; keep events before it."""
        while True:
            message = self._frame(seconds)
            if "event" not in message:
                return message
            self.events.append(message)

    def wait_for_event(self, kind: str, seconds: float = PATIENCE_S) -> Json:
        """Return the oldest event of this kind, and remove it."""
        while True:
            for place, event in enumerate(self.events):
                if event["event"] == kind:
                    return self.events.pop(place)
            self.events.append(self._frame(seconds))

    def is_closed(self) -> bool:
        """Whether the worker has closed the channel, once all its messages are read."""
        with contextlib.suppress(EOFError):
            while True:
                self._frame(PATIENCE_S)
        return True

    def change(
        self, revision: int, add: Iterable[Json], *, whole: bool = False, remove: Iterable[str] = ()
    ) -> None:
        """Prepare and commit."""
        self.prepare(revision, add, whole=whole, remove=remove)
        assert self.ask("commit") == {"revision": revision}

    def prepare(
        self, revision: int, add: Iterable[Json], *, whole: bool = False, remove: Iterable[str] = ()
    ) -> None:
        """Prepare a change."""
        add = list(add)
        for rule in add:
            self._keys[rule["id"]] = _native.output_keys(json.dumps(rule).encode())
        members = {"whole": whole, "remove": list(remove), "add": add}
        assert self.ask("prepare", revision=revision, **members) == {}

    def _frame(self, seconds: float) -> Json:
        length = int.from_bytes(self._take(4, seconds), "little")
        message: Json = json.loads(self._take(length, seconds))
        return message

    def _take(self, count: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while len(self._bytes) < count:
            left = max(0.0, deadline - time.monotonic())
            if not _is_readable(self.socket, left):
                raise TimeoutError(f"nothing heard for {seconds} s")
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise EOFError
            self._bytes += piece
        taken, self._bytes = self._bytes[:count], self._bytes[count:]
        return taken


class WorkerResources:
    """What a supervisor keeps across incarnations of a worker: page and sockets."""

    def __init__(self, ingress: Ingress = "udp") -> None:
        """Of one worker."""
        self.ingress = ingress
        self.page = _native.make_page()
        self.broker = _native.Broker(1, ingress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.forget()
        os.close(self.page)


class WorkerProcess:
    """A worker process in the network namespace of the calling thread."""

    def __init__(self, resources: WorkerResources, **arguments: object) -> None:
        """Start it; `arguments` replace those that it would get."""
        self.supervisor_channel, supervisor_channel = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._broker, broker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._resources = resources
        passed = {
            "supervisor_channel": supervisor_channel.fileno(),
            "broker": broker.fileno(),
            "page": resources.page,
        }
        stated = {
            "number": 0,
            "workers": 1,
            "cpu": None,
            "buffer_bytes": 1 << 20,
            "verify_checksums": True,
            "flows": False,
            "latency": True,
            "ingress": resources.ingress,
            "egress": "auto",
            "offload": "off",
            "uid": None,
            "gid": None,
            "supervisor": os.getpid(),
        }
        text = json.dumps(stated | passed | arguments)
        command = [sys.executable, "-I", "-S", "-c", BOOT, _native.__file__, text]
        self.process = subprocess.Popen(
            command, pass_fds=list(passed.values()), stderr=subprocess.PIPE, text=True
        )
        supervisor_channel.close()
        broker.close()
        self._controls: list[WorkerClient] = []
        # It opens sockets in the network namespace of the calling thread.
        self._serving = threading.Thread(target=self._serve)
        self._serving.start()

    def connect(self) -> WorkerClient:
        """Replace the channel."""
        end, workers_end = socket.socketpair()
        socket.send_fds(self.supervisor_channel, [b"C"], [workers_end.fileno()])
        workers_end.close()
        pages = _native.CounterPages([self._resources.page])
        self._controls.append(WorkerClient(end, pages))
        return self._controls[-1]

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process and release its resources."""
        for end in (self.supervisor_channel, *(control.socket for control in self._controls)):
            end.close()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._serving.join()
            self._broker.close()
            assert self.process.stderr is not None
            self.process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        """Open sockets for the worker, until it ends."""
        self._broker.setblocking(False)
        while _is_readable(self._broker, None):
            if not self._resources.broker.serve(0, self._broker.fileno()):
                return


def specs(*rules: str, ingress: Ingress = "udp", enabled: bool = True) -> list[Json]:
    """The specs of rules, resolved in the calling thread's network namespace."""
    parsed = parse_rules(rules)
    plan = RuleSet(ingress).plan(
        _native.interfaces(), remove=(), add=parsed, names=HostResolver("first", {})
    )
    return [_spec(resolved) | {"enabled": enabled} for resolved in plan.resolved]


def _is_readable(end: socket.socket, seconds: float | None) -> bool:
    poll = select.poll()  # select() takes no more than 1024 descriptors.
    poll.register(end, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def _spec(rule: ResolvedRule) -> Json:
    told: Json = json.loads(b"{" + spec_members(rule, map(output_spec, rule.outputs)))
    return {"id": rule.id} | told

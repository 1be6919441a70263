"""A daemon that relays nothing: it speaks the control protocol from memory, in threads.

Its clients are what is tested with it. It can restart its control process, keep silent, and say
what it never should.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.fake_answers import counters, host_change, loopback, worker
from tests.support.fake_rules import Json, Refusal, parsed

import mcr

LEVELS = ("debug", "info", "warning", "error")
FACILITIES = ("control", "rules", "workers", "interfaces", "clients", "supervisor")


class MadeUpDaemon:
    """Listens at a path from `start` to `stop`; `asked` has every method that was asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.protocol = 1
        self.rules: dict[str, tuple[mcr.Rule, bool]] = {}
        self.revision = 0
        self.events: list[Json] = []
        self.sequence = 0
        self.asked: list[str] = []
        self.params: list[Json] = []
        self.level = "info"
        self.levels: dict[str, str | None] = dict.fromkeys(FACILITIES)
        self.on_line: Callable[[bytes, socket.socket], bool] | None = None
        """Sees each line first; True means that nothing more is to be done about it."""
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None
        self.connections: set[socket.socket] = set()
        self._subscribers: dict[socket.socket, set[str]] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Listen."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._run(self._accept, self._listener)

    def stop(self) -> None:
        """End as a daemon does: no socket, no connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.restart_control()
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(10)

    def restart_control(self) -> None:
        """End all connections; the listening socket is the supervisor's, and stays."""
        with self._lock:
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._subscribers.clear()

    def happen(self, kind: str, event: str, text: str, **fields: Any) -> None:  # noqa: ANN401
        """Tell subscribers of an event, and keep it."""
        with self._lock:
            self.sequence += 1
            own = {"sequence": self.sequence, "at": 1_700_000_000.5, "kind": kind, "event": event}
            params = {**own, "text": text, **fields}
            self.events.append(params)
            for connection, kinds in list(self._subscribers.items()):
                if kind in kinds:
                    _send(connection, {"jsonrpc": "2.0", "method": "event", "params": params})

    def tell(self, params: Json) -> None:
        """Send subscribers an event that is none of the kept ones, such as a gap."""
        with self._lock:
            for connection in self._subscribers:
                _send(connection, {"jsonrpc": "2.0", "method": "event", "params": params})

    @property
    def subscribers(self) -> int:
        """How many connections hear events."""
        return len(self._subscribers)

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections.add(connection)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    if self.on_line is None or not self.on_line(line, connection):
                        self.answer(line, connection)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self.connections.discard(connection)
                self._subscribers.pop(connection, None)

    def answer(self, line: bytes, connection: socket.socket) -> None:
        """Do what one line asks for."""
        try:
            asked = json.loads(line)
        except ValueError:
            error = {"code": -32700, "message": "the line is not JSON"}
            _send(connection, {"jsonrpc": "2.0", "id": None, "error": error})
            return
        with self._lock:
            answers = (
                [self._one(each, connection) for each in asked]
                if isinstance(asked, list)
                else self._one(asked, connection)
            )
            present = [each for each in answers if each] if isinstance(answers, list) else answers
            if present:
                _send(connection, present)
            if not isinstance(asked, list) and asked["method"] == "events.subscribe":
                self._replay(asked.get("params", {}), connection)
        if not isinstance(asked, list) and asked["method"] == "shutdown":
            self._run(self.stop)

    def _one(self, asked: Json, connection: socket.socket) -> Json | None:
        method, params = asked["method"], asked.get("params", {})
        self.asked.append(method)
        self.params.append(params)
        answer: Json = {"jsonrpc": "2.0", "id": asked.get("id")}
        try:
            handler = getattr(self, "_do_" + method.replace(".", "_"), None)
            if handler is None:
                data = {"suggestion": "rules.list"}
                raise Refusal(-32601, f"there is no method {method!r}", data)
            answer["result"] = handler(params, connection)
        except Refusal as refusal:
            answer["error"] = refusal.error
        except KeyError as missing:
            problems = [{"field": missing.args[0], "message": "is missing"}]
            wrong = Refusal(-32602, "the parameters are wrong", {"problems": problems})
            answer["error"] = wrong.error
        return answer if "id" in asked else None

    def _replay(self, params: Json, connection: socket.socket) -> None:
        kinds = self._subscribers.get(connection, set())
        for event in self.events:
            if event["sequence"] > params.get("after", self.sequence) and event["kind"] in kinds:
                _send(connection, {"jsonrpc": "2.0", "method": "event", "params": event})

    def _do_hello(self, params: Json, _: socket.socket) -> Json:
        if params.get("protocol") != self.protocol:
            message = f"this daemon speaks protocol {self.protocol} only"
            raise Refusal(-32001, message, {"supported": [self.protocol]})
        return {
            "protocol": self.protocol,
            "server": "mcr 0.1.0",
            "pid": os.getpid(),
            "revision": self.revision,
            "ingress": "udp",
            "workers": 1,
            "sequence": self.sequence,
        }

    def _do_ping(self, _params: Json, _: socket.socket) -> Json:
        return {"revision": self.revision, "workers": {"running": 1, "of": 1}, "uptime_s": 7384.2}

    def _do_rules_list(self, params: Json, _: socket.socket) -> Json:
        chosen = [self._find(each) for each in params.get("rules", self.rules)]
        return {"revision": self.revision, "rules": [self._info(each) for each in chosen]}

    def _do_rules_get(self, params: Json, _: socket.socket) -> Json:
        return {"revision": self.revision, "rule": self._info(self._find(params["rule"]))}

    def _do_rules_add(self, params: Json, _: socket.socket) -> Json:
        wanted = parsed(params["rules"], params.get("enabled", True))
        fresh = {each: new for each, new in wanted.items() if each not in self.rules}
        return self._change(params, {**self.rules, **fresh}, [x for x in wanted if x in self.rules])

    def _do_rules_replace(self, params: Json, _: socket.socket) -> Json:
        wanted = parsed(params["rules"], True)
        return self._change(params, wanted, [each for each in wanted if each in self.rules])

    def _do_rules_remove(self, params: Json, _: socket.socket) -> Json:
        gone = {self._find(each) for each in params["rules"]}
        return self._change(params, {x: y for x, y in self.rules.items() if x not in gone}, [])

    def _do_rules_enable(self, params: Json, _: socket.socket, *, enabled: bool = True) -> Json:
        named = {self._find(each) for each in params["rules"]}
        wanted = {x: (y[0], enabled if x in named else y[1]) for x, y in self.rules.items()}
        return self._change(params, wanted, [])

    def _do_rules_disable(self, params: Json, connection: socket.socket) -> Json:
        return self._do_rules_enable(params, connection, enabled=False)

    def _do_stats(self, params: Json, _: socket.socket) -> Json:
        chosen = [self._find(each) for each in params.get("rules", self.rules)]
        return counters([self._info(each) for each in chosen], self.revision)

    def _do_workers_list(self, _params: Json, _: socket.socket) -> Json:
        return {"workers": [worker()]}

    def _do_interfaces_list(self, _params: Json, _: socket.socket) -> Json:
        return {"interfaces": [loopback()]}

    def _do_logs_get(self, _params: Json, _: socket.socket) -> Json:
        return {"global": self.level, "facilities": dict(self.levels)}

    def _do_logs_set(self, params: Json, connection: socket.socket) -> Json:
        facility, level = params.get("facility"), params["level"]
        if level is not None and level not in LEVELS:
            problems = [{"field": "level", "message": f"{level!r} is no level"}]
            raise Refusal(-32602, "the parameters are wrong", {"problems": problems})
        if facility is None:
            self.level = level
        else:
            self.levels[facility] = level
        return self._do_logs_get({}, connection)

    def _do_events_subscribe(self, params: Json, connection: socket.socket) -> Json:
        kinds = params.get("kinds", ["rule", "worker", "interface", "log"])
        self._subscribers[connection] = set(kinds)
        kept = [event["sequence"] for event in self.events]
        oldest = min(kept, default=self.sequence + 1)
        missed = max(0, oldest - 1 - params["after"]) if "after" in params else 0
        return {"sequence": self.sequence, "oldest": oldest, "missed": missed}

    def _do_events_unsubscribe(self, _params: Json, connection: socket.socket) -> Json:
        self._subscribers.pop(connection, None)
        return {}

    def _do_hosts_resolve(self, _params: Json, _: socket.socket) -> Json:
        return {"changes": [host_change()], "revision": self.revision}

    def _do_shutdown(self, _params: Json, _: socket.socket) -> Json:
        return {}

    def _find(self, which: str) -> str:
        for each, (rule, _) in self.rules.items():
            if which in (each, rule.name):
                return each
        raise Refusal(-32003, f"there is no rule with the id or name {which!r}")

    def _change(
        self, params: Json, wanted: dict[str, tuple[mcr.Rule, bool]], kept: list[str]
    ) -> Json:
        expected = params.get("expected_revision", self.revision)
        if expected != self.revision:
            data = {"expected": expected, "actual": self.revision}
            raise Refusal(-32002, "the rules have changed", data)
        before = self.rules
        added = [each for each in wanted if each not in before]
        removed = [each for each in before if each not in wanted]
        changed = [x for x in wanted if x in before and wanted[x][1] != before[x][1]]
        self.rules = wanted
        infos = [self._info(each) for each in added]
        if params.get("dry_run", False):
            self.rules = before
        elif added or removed or changed:
            self.revision += 1
            for each in added:
                rule = wanted[each][0]
                self.happen("rule", "added", f"rule {each} was added", id=each, name=rule.name)
        return {
            "revision": self.revision,
            "dry_run": params.get("dry_run", False),
            "added": infos,
            "removed": removed,
            "kept": kept,
            "changed": changed,
            "warnings": [],
        }

    def _info(self, which: str) -> Json:
        rule, enabled = self.rules[which]
        outputs = [
            {"output": str(each), "ttl": each.effective_ttl, "parked": None}
            for each in rule.outputs
        ]
        return {
            "id": which,
            "name": rule.name,
            "rule": str(rule),
            "enabled": enabled,
            "state": "joined, no frame seen on lo" if enabled else "disabled",
            "outputs": outputs,
        }


@contextmanager
def made_up_daemon(path: Path) -> Iterator[MadeUpDaemon]:
    """Run one for the length of a block."""
    daemon = MadeUpDaemon(path)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


def _send(connection: socket.socket, message: object) -> None:
    with suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")

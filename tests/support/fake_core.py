"""An engine that moves no datagrams: it records the calls of `Relay`, and fails on request."""

import json
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from tests.support.edited_specs import edited

from mcr.errors import EngineError


class FakeCore:
    """Has the methods of `mcr._native.RelayCore`; `made` lists all instances, the newest last."""

    made: ClassVar[list["FakeCore"]] = []
    refuse_change: ClassVar[Exception | None] = None

    def __init__(
        self,
        ingress: str,
        egress: str,
        offload: str,
        workers: int,
        buffer_bytes: int,
        cpus: Sequence[int],
        verify_checksums: bool,
        flows: bool,
        latency: bool,
    ) -> None:
        self.ingress = "udp" if ingress == "auto" else ingress
        self.egress = egress
        self.offload = offload
        self.workers = workers
        self.buffer_bytes = buffer_bytes
        self.cpus = cpus
        self.verify_checksums = verify_checksums
        self.flows_counted = flows
        self.latency_measured = latency
        self.rules: dict[str, dict[str, Any]] = {}
        """The specifications, by id."""
        self.changes: list[tuple[int, int]] = []
        """How many rules each change has removed, and how many put or replaced."""
        self.started = False
        self.has_spares = False
        self.stopped = threading.Event()
        self.error: str | None = None
        self.counters: dict[str, Any] = {}
        self.changed: object = None
        self.made.append(self)

    def apply(
        self,
        remove: Sequence[str],
        put: bytes,
        edit: bytes,
        whole: bool,
        shaping: bytes | None,
        note: object,
    ) -> None:
        """All or nothing, like the real one; a rule that is applied again stays as it is."""
        if self.refuse_change is not None:
            raise self.refuse_change
        assert not whole
        assert shaping is None or json.loads(shaping)["classes"]
        changed = (*json.loads(put), *(edited(self.rules, each) for each in json.loads(edit)))
        rules = {rule["id"]: rule for rule in changed}
        fresh = [each for each, rule in rules.items() if self.rules.get(each) != rule]
        replaced = [each for each in fresh if each in self.rules]
        for rule_id in remove:
            del self.rules[rule_id]
        self.rules |= rules
        self.changes.append((len(remove) + len(replaced), len(fresh)))
        self.changed = note

    def reading(self) -> "FakeReading":
        """Nothing happens to its counters that would be reported."""
        return FakeReading()

    def open_spares(self) -> None:
        """Record the call."""
        self.has_spares = True

    def start(self) -> None:
        """Start nothing; a second call fails, like the real one."""
        if self.started:
            raise EngineError("the relay was started before")
        self.started = True

    def stop(self) -> None:
        """Wake the waiters."""
        self.stopped.set()

    def fail(self, text: str) -> None:
        """Fail like a real engine that lost its ring."""
        self.error = text
        self.stopped.set()

    def wait(self, timeout_s: float | None) -> bool:
        """Like the real one."""
        stopped = self.stopped.wait(timeout_s)
        if self.error is not None:
            raise EngineError(self.error)
        return stopped

    def warnings(self) -> list[str]:
        """One warning."""
        return ["the receive buffer is small"]

    def troubles(self, version: int | None) -> None:
        """No rule has any."""

    def senders(self, rules: Sequence[str], window_ms: int) -> None:
        """None are counted."""

    def sequence_gaps(self, rules: Sequence[str]) -> None:
        """None are counted."""

    def latency(self, rules: Sequence[str]) -> None:
        """None is measured."""

    def stats(self) -> dict[str, Any]:
        """Zeros, except for the counts that a test has put into `counters` for all rules."""
        return {
            "interfaces": [
                {
                    "name": "lo",
                    "ingress": self.ingress,
                    "received": 0,
                    "received_bytes": 0,
                    "rate_1s": None,
                    "rate_10s": None,
                    "matched": 0,
                    "kernel_dropped_frames": 0,
                    "buffer_waits": 0,
                    "error": None,
                    "dropped": {"no_rule": 0},
                }
            ],
            "rules": [self._rule(rule) for rule in self.rules.values()],
        }

    def _rule(self, rule: dict[str, Any]) -> dict[str, Any]:
        output: dict[str, Any] = {
            "parked": None,
            "wanted": 0,
            "sent": 0,
            "sent_bytes": 0,
            "rate_1s": None,
            "rate_10s": None,
            "pending": 0,
            "refused": 0,
            "dropped": {"output_full": 0},
            "errors": {},
            "lost_reason": None,
            "lost_errno": None,
            "lost_age_ms": None,
            "refused_age_ms": None,
        }
        return {
            "id": rule["id"],
            "enabled": rule["enabled"],
            "trouble": None,
            "offload": "engine",
            "offload_reason": "off",
            "offload_detail": None,
            "matched": 0,
            "matched_bytes": 0,
            "flows_evicted": 0,
            "looped": 0,
            "rate_1s": None,
            "rate_10s": None,
            "last_source": None,
            "last_seen_age_ms": None,
            "group_seen": 0,
            "group_seen_age_ms": None,
            "other_port": None,
            "other_source": None,
            "outputs": [dict(output) for _ in rule["outputs"]],
        } | self.counters


class FakeReading:
    """Has what is asked of a `mcr._native.CounterReading` that is compared with the one before."""

    def interfaces(self, ingress: str) -> list[dict[str, Any]]:
        """There is none."""
        del ingress
        return []

    def levels(self, rules: Sequence[str]) -> list[tuple[None, None, None]]:
        """Nothing is known of any rule."""
        return [(None, None, None)] * len(rules)

    def changes(self, before: object, rules: object) -> tuple[list[Any], list[Any]]:
        """No losses and no other senders."""
        del before, rules
        return [], []

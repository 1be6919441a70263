"""What a made-up daemon says of its traffic, its workers and its host: always the same."""

import os

from tests.support.fake_rules import Json


def counters(rules: list[Json], revision: int) -> Json:
    """The result of ``stats``, for rules as ``rules.list`` has them."""
    interface = {
        "name": "lo",
        "ingress": "udp",
        "received": 12,
        "matched": 10,
        "buffer_waits": 0,
        "kernel_dropped_frames": 0,
        "error": None,
        "dropped": {"no_rule": 2, "source": 0},
    }
    totals = {
        "received": 12,
        "matched": 10,
        "dropped": {"no_rule": 2, "source": 0},
        "wanted": 10,
        "sent": 9,
        "lost": 1,
        "kernel_dropped_frames": 0,
    }
    return {
        "interfaces": [interface],
        "rules": [_counted(rule) for rule in rules],
        "revision": revision,
        "totals": totals,
        "stale_workers": [],
    }


def worker() -> Json:
    """A worker that died once."""
    death = {
        "at": 1_700_000_000.0,
        "cause": "killed by SIGKILL",
        "outage_ms": 112,
        "missed_frames": 40,
    }
    return {
        "number": 0,
        "pid": os.getpid(),
        "state": "running",
        "cpu": None,
        "incarnation": 2,
        "started_at": 1_700_000_000.1,
        "deaths": 1,
        "last_death": death,
        "restart_in_ms": None,
    }


def loopback() -> Json:
    """The only interface."""
    return {
        "name": "lo",
        "altnames": ["loop0"],
        "index": 1,
        "up": True,
        "carrier": True,
        "multicast": False,
        "loopback": True,
        "mtu": 65536,
        "gro": True,
        "addresses": ["127.0.0.1", "::1"],
    }


def host_change() -> Json:
    """A host name that has another address now."""
    return {
        "host": "studio.example",
        "before": ["192.0.2.7"],
        "after": ["192.0.2.8"],
        "error": None,
    }


def _counted(rule: Json) -> Json:
    outputs = [
        {
            "output": each["output"],
            "address": "127.0.0.1",
            "wanted": 10,
            "sent": 9,
            "sent_bytes": 900,
            "pending": 0,
            "refused": 0,
            "parked": None,
            "dropped": {"send_error": 0, "output_full": 1},
            "errors": {},
        }
        for each in rule["outputs"]
    ]
    counts = {"matched": 10, "matched_bytes": 1000, "outputs": outputs}
    return {**{name: rule[name] for name in ("id", "name", "rule", "state")}, **counts}

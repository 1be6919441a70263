"""Log records about what interfaces discard, and about buffers that are used up."""

from typing import Any

import mcr
from mcr.alarms.discards import DiscardMonitor
from mcr.stats.discards import MISMATCHES, PARSE_ERRORS


def interface(name: str = "eth0", waits: int = 0, **dropped: int) -> dict[str, Any]:
    """The counters of an interface."""
    reasons = dict.fromkeys((*PARSE_ERRORS, *MISMATCHES), 0)
    return {"name": name, "buffer_waits": waits, "dropped": reasons | dropped}


def test_the_reasons_of_interfaces_are_of_two_kinds() -> None:
    """Each belongs to one of them, so that matched and both add up to received."""
    with mcr.Relay("239.1.97.1%lo:5001 to 127.0.0.1:9", ingress="udp") as relay:
        (counted,) = relay.stats().interfaces
    assert sorted(counted.dropped) == sorted((*PARSE_ERRORS, *MISMATCHES))


def test_the_first_is_reported_at_once_and_the_rest_every_ten_seconds() -> None:
    """All that was counted is reported, with the facility."""
    monitor = DiscardMonitor()

    def sample(now_s: float, *interfaces: dict[str, Any]) -> list[tuple[str | None, bool, str]]:
        found = monitor.sample(now_s, interfaces, is_first=now_s == 0)
        return [(each.facility, each.is_warning, each.text) for each in found]

    assert not sample(0, interface(waits=5, bad_length=3))  # before anything was watched
    damaged = "interface eth0 received what cannot be parsed: "
    assert sample(1, interface(waits=5, bad_length=4, no_rule=7)) == [
        ("parser", False, damaged + "1 bad_length")
    ]
    assert not sample(2, interface(waits=5, bad_length=9))
    no_buffer = "had no free buffer 2 times; frames waited in the kernel"
    assert sample(10, interface(waits=7, bad_length=9)) == [
        ("pool", True, f"interface eth0 {no_buffer}")
    ]
    assert sample(11, interface(waits=7, bad_length=10, fragment=2)) == [
        ("parser", False, damaged + "6 bad_length, 2 fragment")
    ]
    assert not sample(30, interface(waits=7, bad_length=10, fragment=2))
    new = interface("eth1", waits=2)
    assert sample(31, new) == [("pool", True, f"interface eth1 {no_buffer}")]
    assert sample(32, interface(waits=1)) == [
        ("pool", True, "interface eth0 had no free buffer 1 times; frames waited in the kernel")
    ]

"""The lifecycle of a `Relay`, its changes and its errors, with a fake engine."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from tests.support.fake_core import FakeCore

import mcr

ANY: Any = mcr
"""Takes what the types forbid."""

A = "239.1.1.1%lo:5001,name=a to 127.0.0.1:7001"
B = "239.1.1.2%lo:5001,name=b to 127.0.0.1:7002 127.0.0.1:7003"
C = "239.1.1.3%lo:5001 to 127.0.0.1:7004"


@pytest.fixture(autouse=True)
def fake_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeCore]]:
    """Replace the engine by the fake."""
    monkeypatch.setattr("mcr.relay.active_rules.RelayCore", FakeCore)
    monkeypatch.setattr(FakeCore, "made", [])
    yield FakeCore
    for core in FakeCore.made:
        assert core.stopped.is_set(), "a test left a relay open"


def test_with_opens_starts_and_closes() -> None:
    """The engine runs during the block; afterwards nothing is left."""
    with mcr.Relay(A, B) as relay:
        (core,) = FakeCore.made
        assert core.started
        assert core.changes == [(0, 2)]
        assert [rule.name for rule in relay.rules] == ["a", "b"]
    assert core.stopped.is_set()


def test_open_comes_before_start() -> None:
    """In between a program can give up its rights."""
    relay = mcr.Relay(A)
    relay.open()
    (core,) = FakeCore.made
    assert (len(core.rules), core.started) == (1, False)
    relay.start()
    assert core.started
    with relay:
        assert FakeCore.made == [core]


@pytest.mark.parametrize("rights_end", [False, True])
def test_spare_sockets_are_opened_on_request(rights_end: bool) -> None:
    """With the rules, for programs that give up rights."""
    relay = mcr.Relay(A)
    relay.open(rights_end=rights_end)
    assert FakeCore.made[0].has_spares == rights_end
    relay.close()


def test_options_reach_the_engine() -> None:
    """Its own decisions are shown."""
    relay = mcr.Relay(
        A, ingress="auto", egress="socket", offload="auto", workers=3, buffer_bytes=2**21
    )
    asked = relay.ingress
    assert asked == "auto"
    with relay:
        assert relay.ingress == "udp"
        assert (FakeCore.made[0].egress, FakeCore.made[0].offload) == ("socket", "auto")
        assert (FakeCore.made[0].workers, FakeCore.made[0].buffer_bytes) == (3, 2**21)
        assert "the receive buffer is small" in relay.warnings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ingress": "pcap"}, "ingress: must be auto, packet or udp, not 'pcap'"),
        ({"egress": "udp"}, "egress: must be auto, socket or xdp, not 'udp'"),
        ({"offload": "on"}, "offload: must be off, auto or require, not 'on'"),
        ({"workers": 0}, "workers: must be an integer from 1 to 256, not 0"),
        ({"workers": "2"}, "workers: must be an integer from 1 to 256, not '2'"),
        ({"buffer_bytes": 2.5e6}, "buffer_bytes: must be 1 MiB to 1 TiB, not 2500000.0"),
        ({"workers": 99_999}, "workers: must be an integer from 1 to 256, not 99999"),
        ({"buffer_bytes": 4096}, "buffer_bytes: must be 1 MiB to 1 TiB, not 4096"),
        ({"cpus": 3}, "cpus: must be a list such as 0,2-3, not 3"),
        ({"flows": "yes"}, "flows: must be True or False, not 'yes'"),
        ({"expect": 5}, "expect: "),
    ],
)
def test_invalid_options_are_refused(options: dict[str, object], message: str) -> None:
    """The message names the option."""
    with pytest.raises(mcr.ArgumentError, match=message):
        mcr.Relay(A, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ANY.Relay(5), "a rule must be an mcr.Rule or a string, not int"),
        (lambda: ANY.Rule.parse(b"x"), "a rule must be an mcr.Rule or a string, not bytes"),
        (lambda: ANY.Sender(5), "an output must be an mcr.Output or a string, not int"),
        (lambda: ANY.Receiver(None), "an input must be an mcr.Input or a string, not NoneType"),
        (lambda: ANY.Client(3), "socket: must be a path, not 3"),
        (lambda: ANY.Client("x", timeout_s="1"), "timeout_s: must be above 0 and finite, not '1'"),
        (lambda: ANY.Client("x").add_rules([3]), "a rule must be an mcr.Rule or a string, not int"),
        (lambda: ANY.Client("x").stats(3), "rules are a sequence"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(call: Callable[[], object], message: str) -> None:
    """With an error of mcr, which is a TypeError and a ValueError too."""
    with pytest.raises(mcr.ArgumentError, match=message) as caught:
        call()
    assert isinstance(caught.value, mcr.McrError)
    assert isinstance(caught.value, TypeError)


def test_all_invalid_rules_are_named() -> None:
    """The constructor reports all problems at once and opens nothing."""
    with pytest.raises(mcr.RuleError) as caught:
        mcr.Relay("nonsense", A, "239.1.1.1%lo:0 to 127.0.0.1:1")
    assert [problem.field.split(",")[0] for problem in caught.value.problems] == [
        "rule 1",
        "rule 3",
    ]
    assert FakeCore.made == []


def test_changes_of_rules() -> None:
    """A rule is removed by value, id or name; the others keep their place in the engine."""
    with mcr.Relay(A) as relay:
        b, c = relay.add_rule(B), relay.add_rule(mcr.Rule.parse(C))
        relay.remove_rule("a")
        relay.remove_rule(b.id)
        assert list(relay.rules) == [c]
        relay.remove_rule(c)
        assert list(relay.rules) == []
        assert FakeCore.made[0].changes[1:] == [(0, 1), (0, 1), (1, 0), (1, 0), (1, 0)]


def test_rules_may_change_before_opening() -> None:
    """By the same calls."""
    relay = mcr.Relay(A)
    relay.add_rule(B)
    relay.remove_rule("a")
    assert [rule.name for rule in relay.rules] == ["b"]
    with relay:
        assert FakeCore.made[0].changes == [(0, 1)]


def test_a_disabled_rule_stays_disabled() -> None:
    """Disabled before or after opening, kept by a replacement, until it is removed."""

    def states(relay: mcr.Relay) -> list[bool]:
        return [rule.state == "disabled" for rule in relay.stats().rules]

    relay = mcr.Relay(A, B, C)
    relay.disable_rule("a")
    relay.disable_rule("b")
    relay.enable_rule("b")
    third = relay.rules[2]
    relay.disable_rule(third)
    relay.remove_rule(third)
    relay.add_rule(third)
    with relay:
        assert states(relay) == [True, False, False]
        relay.disable_rule("b")
        relay.replace_rules([B, A])
        assert states(relay) == [True, True]
        relay.enable_rule("a")
        relay.remove_rule("b")
        relay.add_rule(B)
        assert states(relay) == [False, False]
        with pytest.raises(mcr.RuleError, match="there is none with the id or name 'c'"):
            relay.disable_rule("c")


def test_an_unknown_rule_cannot_be_removed() -> None:
    """The message repeats the id or name."""
    with mcr.Relay(A) as relay, pytest.raises(mcr.RuleError, match="id or name 'x'"):
        relay.remove_rule("x")


def test_replacing_keeps_what_stays() -> None:
    """A rule in both sets is not affected: it loses neither datagrams nor counters."""
    with mcr.Relay(A, B) as relay:
        relay.replace_rules([C, B])
        assert FakeCore.made[0].changes[-1] == (1, 1)
        assert [str(rule) for rule in relay.rules] == [C, B]
        assert [rule.rule for rule in relay.stats().rules] == [C, B]


def test_replacing_renames_without_touching_the_engine() -> None:
    """The engine does not know names."""
    with mcr.Relay(A) as relay:
        relay.replace_rules([A.replace("name=a", "name=z")])
        assert FakeCore.made[0].changes[-1] == (0, 0)
        assert relay.stats().rules[0].name == "z"


@pytest.mark.parametrize("wrong", ["nonsense", "239.1.1.9:1 to 127.0.0.1:2"])
def test_a_refused_replacement_changes_nothing(wrong: str) -> None:
    """One invalid rule prevents the whole change."""
    with mcr.Relay(A, B) as relay:
        before = relay.rules
        with pytest.raises(mcr.RuleError):
            relay.replace_rules([C, wrong])
        assert relay.rules == before
        assert FakeCore.made[0].changes == [(0, 2)]


def test_a_failed_change_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are those of the engine, even after a failure in the middle."""
    with mcr.Relay(A) as relay:
        monkeypatch.setattr(FakeCore, "refuse_change", mcr.InterfaceError("lo: went away"))
        with pytest.raises(mcr.InterfaceError):
            relay.add_rule(B)
        monkeypatch.undo()
        assert [rule.name for rule in relay.rules] == ["a"]


def test_a_refused_opening_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is stopped; the relay can be opened later."""
    monkeypatch.setattr(FakeCore, "refuse_change", mcr.RightsError("CAP_NET_RAW is missing"))
    relay = mcr.Relay(A)
    with pytest.raises(PermissionError, match="CAP_NET_RAW"):
        relay.open()
    assert FakeCore.made[0].stopped.is_set()
    monkeypatch.setattr(FakeCore, "refuse_change", None)
    relay.open()
    relay.close()


def test_stats_name_rules_and_outputs() -> None:
    """With rule text in place of ids, in the order of the rules."""
    with mcr.Relay(A, B) as relay:
        FakeCore.made[0].counters = {
            "matched": 5,
            "matched_bytes": 500,
            "last_source": ip_address("10.0.0.5"),
            "last_seen_age_ms": 3,
        }
        stats = relay.stats()
        assert [rule.name for rule in stats.rules] == ["a", "b"]
        assert [output.output for output in stats.rules[1].outputs] == [
            "127.0.0.1:7002",
            "127.0.0.1:7003",
        ]
        assert stats.rules[0].state == "flowing from 10.0.0.5"
        assert stats.interfaces[0].name == "lo"
        assert stats.imbalances() == ()


def test_counters_outlive_stop_but_not_close() -> None:
    """A final report reads a stopped engine, without pending copies."""
    relay = mcr.Relay(A)
    relay.start()
    relay.stop()
    relay.stop()
    assert len(relay.stats().rules) == 1
    for use in (relay.start, lambda: relay.add_rule(B)):
        with pytest.raises(mcr.McrError, match="was stopped"):
            use()
    relay.close()
    with pytest.raises(mcr.McrError, match="closed"):
        relay.stats()


def test_stats_need_an_open_relay() -> None:
    """The message says what to do."""
    with pytest.raises(mcr.McrError, match="not open"):
        mcr.Relay(A).stats()


def test_wait_needs_a_started_relay() -> None:
    """Otherwise it would return at once, or never."""
    relay = mcr.Relay(A)
    relay.open()
    with pytest.raises(mcr.McrError, match="not started"):
        relay.wait(0)
    relay.close()


def test_wait_ends_after_its_time_or_when_stopped() -> None:
    """False if the relay still runs, True if it was stopped."""
    with mcr.Relay(A) as relay:
        assert relay.wait(0.01) is False
        stopper = threading.Thread(target=relay.stop)
        stopper.start()
        assert relay.wait(10) is True
        stopper.join()


@pytest.mark.parametrize("timeout_s", [-1, float("nan")])
def test_wait_refuses_invalid_times(timeout_s: float) -> None:
    """The message names the argument."""
    with mcr.Relay(A) as relay, pytest.raises(ValueError, match="timeout_s"):
        relay.wait(timeout_s)


def test_wait_raises_the_error_of_the_engine() -> None:
    """A failure is distinguished from a stop."""
    with mcr.Relay(A) as relay:
        before = relay.error
        assert before is None
        FakeCore.made[0].fail("the ring is gone")
        assert relay.error == "the ring is gone"
        with pytest.raises(mcr.EngineError, match="the ring is gone"):
            relay.wait()


def test_close_is_idempotent_and_final() -> None:
    """All other methods of a closed relay fail."""
    relay = mcr.Relay(A)
    relay.start()
    relay.close()
    relay.close()
    for use in (relay.start, relay.open, relay.stats, relay.wait, relay.stop):
        with pytest.raises(mcr.McrError, match="closed"):
            use()
    with pytest.raises(mcr.McrError, match="closed"):
        relay.add_rule(B)


def test_a_relay_that_was_not_closed_warns() -> None:
    """As a file does; the engine is stopped all the same."""

    def forget() -> None:
        mcr.Relay(A).open()
        gc.collect()

    with pytest.warns(ResourceWarning, match="not closed"):
        forget()


def test_a_relay_that_never_opened_needs_no_close() -> None:
    """It holds no resources."""
    mcr.Relay(A)
    gc.collect()


def test_a_forked_child_cannot_use_the_relay() -> None:
    """Its threads and sockets are the parent's; the child gets an error instead of a hang."""
    with mcr.Relay(A) as relay:
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (relay.stats, relay.close, lambda: relay.rules):
                try:
                    use()
                except mcr.McrError:
                    refused += 1
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert not FakeCore.made[0].stopped.is_set()


def test_threads_change_rules_at_the_same_time() -> None:
    """Changes are made one by one; none is lost."""

    def add(first: int) -> None:
        for port in range(first, first + 20):
            relay.add_rule(f"239.1.1.1%lo:{port} to 127.0.0.1:{port}")

    with mcr.Relay() as relay:
        threads = [threading.Thread(target=add, args=(port,)) for port in (5000, 6000, 7000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(relay.rules) == len(FakeCore.made[0].rules) == 60

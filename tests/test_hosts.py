"""Host names of outputs: resolved at the start and on request, to the first address or all."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.support.fake_core import FakeCore

import mcr
from mcr.cli import relay as command
from mcr.cli.log_notes import noted_log
from mcr.protocol.log_spec import LogSpec

NAMED = "239.1.1.1%lo:5001 to studio.example:7001 127.0.0.9:7001"
OTHER = "239.1.1.2%lo:5001 to other.example:7002"
PLAIN = "239.1.1.3%lo:5001 to 127.0.0.1:7003"


class NameServer:
    """Answers from a table that a test may change, and counts queries."""

    def __init__(self) -> None:
        self.table = {
            "studio.example": ["192.0.2.8", "192.0.2.7", "2001:db8::7"],
            "other.example": ["192.0.2.20"],
        }
        self.asked: list[str] = []
        self.wait: Callable[[], object] = lambda: None

    def getaddrinfo(
        self, host: str, port: None, family: int, kind: int
    ) -> list[tuple[object, ...]]:
        """Like that of the C library."""
        self.asked.append(host)
        self.wait()
        mark = "." if family == socket.AF_INET else ":" if family == socket.AF_INET6 else ""
        found = [text for text in self.table.get(host, []) if mark in text]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, kind, 17, "", (text, 0)) for text in found]


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Fakes of the engine and the name server."""
    made = NameServer()
    monkeypatch.setattr("mcr.relay.active_rules.RelayCore", FakeCore)
    monkeypatch.setattr(FakeCore, "made", [])
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    for core in FakeCore.made:
        assert core.stopped.is_set(), "a test left a relay open"


def addresses(relay: mcr.Relay) -> list[list[str]]:
    """The addresses to which each rule sends."""
    return [[output.address for output in rule.outputs] for rule in relay.stats().rules]


def test_the_first_address_is_used() -> None:
    """In the order of the system's answer."""
    with mcr.Relay(NAMED) as relay:
        assert addresses(relay) == [["192.0.2.8", "127.0.0.9"]]


def test_all_addresses_are_used_in_ascending_order() -> None:
    """Statistics distinguish them; the text of each output has the name."""
    with mcr.Relay(NAMED, hosts="all") as relay:
        assert addresses(relay) == [["192.0.2.7", "192.0.2.8", "2001:db8::7", "127.0.0.9"]]
        outputs = relay.stats().rules[0].outputs
        assert {each.output for each in outputs[:3]} == {"studio.example:7001"}
        assert outputs[3].as_dict()["output"] == "127.0.0.9:7001"
        assert outputs[0].as_dict()["address"] == "192.0.2.7"


def test_a_source_decides_the_family() -> None:
    """Only addresses that a copy with this source can be sent to."""
    rule = "239.1.1.1%lo:5001 to studio.example:7001,source=127.0.0.1"
    with mcr.Relay(rule, hosts="all") as relay:
        assert addresses(relay) == [["192.0.2.7", "192.0.2.8"]]


def test_problems_name_the_output_of_the_rule() -> None:
    """However many addresses earlier names have."""
    rule = f"{NAMED} 127.0.0.9:7001"
    with pytest.raises(mcr.RuleError, match="output 3: has the same destination"):
        mcr.Relay(rule, hosts="all").open()


def test_resolving_again_changes_only_affected_rules(server: NameServer) -> None:
    """Other rules are not touched, and the order stays."""
    with mcr.Relay(NAMED, OTHER, PLAIN) as relay:
        server.table["studio.example"] = ["192.0.2.9"]
        (change,) = relay.resolve_hosts()
        assert (
            str(change)
            == "the host 'studio.example' now resolves to 192.0.2.9 instead of 192.0.2.8"
        )
        assert addresses(relay) == [["192.0.2.9", "127.0.0.9"], ["192.0.2.20"], ["127.0.0.1"]]
        assert [str(rule) for rule in relay.rules] == [NAMED, OTHER, PLAIN]
        assert FakeCore.made[0].changes == [(0, 3), (1, 1)]
        assert relay.resolve_hosts() == ()
        assert len(FakeCore.made[0].changes) == 2


@pytest.mark.parametrize("hosts", ["first", "all"])
def test_another_order_of_the_answers_is_no_change(server: NameServer, hosts: str) -> None:
    """A server that rotates its answers must not restart counters."""
    with mcr.Relay(NAMED, hosts=hosts) as relay:  # type: ignore[arg-type]
        server.table["studio.example"].reverse()
        assert relay.resolve_hosts() == ()
        assert len(FakeCore.made[0].changes) == 1


def test_a_name_that_fails_keeps_its_addresses(server: NameServer) -> None:
    """The others are updated all the same."""
    with mcr.Relay(NAMED, OTHER) as relay:
        del server.table["studio.example"]
        server.table["other.example"] = ["192.0.2.21"]
        failed, changed = relay.resolve_hosts()
        assert str(failed) == (
            "the host 'studio.example' does not resolve: Name or service not known; its copies"
            " still go to 192.0.2.8"
        )
        assert (changed.host, changed.error) == ("other.example", None)
        assert addresses(relay) == [["192.0.2.8", "127.0.0.9"], ["192.0.2.21"]]


def test_unusable_answers_change_nothing(server: NameServer) -> None:
    """All or nothing; a later attempt may succeed."""
    with mcr.Relay(NAMED, OTHER) as relay:
        server.table |= {"studio.example": ["127.0.0.9"], "other.example": ["192.0.2.21"]}
        with pytest.raises(mcr.RuleError, match="same destination"):
            relay.resolve_hosts()
        assert addresses(relay) == [["192.0.2.8", "127.0.0.9"], ["192.0.2.20"]]
        server.table["studio.example"] = ["192.0.2.9"]
        assert len(relay.resolve_hosts()) == 2


def test_names_are_resolved_once(server: NameServer) -> None:
    """A relay keeps the answer until the next request, and forgets unused names."""
    with mcr.Relay(NAMED) as relay:
        relay.add_rule("239.1.1.9%lo:5001 to studio.example:7009")
        relay.replace_rules([NAMED])
        assert server.asked == ["studio.example"]
        relay.remove_rule(relay.rules[0])
        assert relay.resolve_hosts() == ()
        assert server.asked == ["studio.example"]
        relay.add_rule(NAMED)
        assert server.asked == ["studio.example"] * 2


@pytest.mark.parametrize("call", ["add", "again"])
def test_a_slow_server_delays_no_other_call(server: NameServer, call: str) -> None:
    """While one thread waits for it, others read counters and change rules."""
    asking, answered = threading.Event(), threading.Event()

    def wait() -> None:
        asking.set()
        assert answered.wait(10)

    with mcr.Relay(NAMED) as relay:
        server.wait = wait
        calls = {"add": lambda: relay.add_rule(OTHER), "again": relay.resolve_hosts}
        waiting = threading.Thread(target=calls[call])
        waiting.start()
        assert asking.wait(10)
        assert len(relay.stats().rules) == 1
        relay.add_rule(PLAIN)
        assert waiting.is_alive()
        answered.set()
        waiting.join()
        assert len(relay.rules) == (3 if call == "add" else 2)


def test_only_an_open_relay_can_resolve_hosts() -> None:
    """Otherwise there is no answer to compare with."""
    with pytest.raises(mcr.McrError, match="not open"):
        mcr.Relay(NAMED).resolve_hosts()


def test_hosts_is_one_of_two_words() -> None:
    """The message names the argument."""
    with pytest.raises(ValueError, match="hosts: must be first or all, not 'some'"):
        mcr.Relay(NAMED, hosts="some")  # type: ignore[arg-type]


def test_the_command_reports_changes(server: NameServer) -> None:
    """A line for each change, a warning for each failure, one line if there is neither."""
    with mcr.Relay(NAMED, OTHER) as relay, noted_log(LogSpec.parse("info")) as notes:
        command._resolve_hosts(relay)
        server.table["other.example"] = ["192.0.2.21"]
        del server.table["studio.example"]
        command._resolve_hosts(relay)
        server.table["studio.example"] = ["127.0.0.9"]
        command._resolve_hosts(relay)
        said = [each.partition(" ")[2] for each in notes.take()]  # behind the time
    as_before, failed, changed, refused = said
    assert as_before == "host names resolved again: no address has changed"
    assert failed.startswith("warning: the host 'studio.example' does not resolve")
    assert changed == "the host 'other.example' now resolves to 192.0.2.21 instead of 192.0.2.20"
    assert refused.startswith(
        "warning: host names resolved again, nothing changed: rule 1, output 2"
    )

"""The daemon as its user meets it: start it, add a rule, see it flow, end it."""

import mcr

from .checks import assert_balanced
from .daemons import alive, serving
from .lab import Lab
from .relays import Ingress
from .traffic import payloads

RULE = "239.1.90.1%in0:5001 to 239.2.90.1%out0:6001 239.2.90.2%out1:6001"


def test_a_rule_added_to_a_running_daemon_relays(lab: Lab, ingress: Ingress) -> None:
    """Byte for byte to each output, counted; at the end nobody stays and the socket is gone."""
    sent = payloads(500)
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        lab.receive("239.2.90.1", 6001) as first,
        lab.receive("239.2.90.2", 6001, "d1") as second,
        lab.sender("239.1.90.1", 5001) as sender,
    ):
        added = client.add_rule(RULE)
        sender.send(sent)
        first.expect(sent)
        second.expect(sent)
        stats = client.stats()
        assert_balanced(stats)
        assert stats.rules[0].matched == len(sent)
        assert [rule.id for rule in client.rules().rules] == [rule.id for rule in added.added]
        pids = daemon.processes
        assert daemon.end() == 0
        assert not any(alive(pid) for pid in pids)
        assert not daemon.socket.exists()


def test_the_rules_can_come_from_a_program_without_a_daemon(lab: Lab) -> None:
    """The same rule runs in a program of its own beside the daemon."""
    with serving(lab.relay) as daemon, lab.relay, mcr.Relay(RULE) as relay:
        assert [rule.id for rule in relay.rules] != []
        with daemon.client() as client:
            assert client.rules().rules == ()


def test_rings_of_other_processes_of_nobody_are_not_in_the_way(lab: Lab) -> None:
    """The kernel counts all of a user together, but for rings that root has made."""
    with serving(lab.relay, before=("prlimit", "--memlock=65536")) as daemon:
        assert len(daemon.workers) == 1

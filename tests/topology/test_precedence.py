"""A rule that a more specific one leaves nothing: its state says where the datagrams went."""

import subprocess

import pytest
from tests.support.deadline import wait_until

import mcr

from .daemons import MCR, serving
from .lab import Lab
from .relays import Ingress, relaying

GENERAL = "239.1.110.1%in0:5001,name=general to 239.2.110.1%out0:6001"
NAMED = "10.1.0.2@239.1.110.1%in0:5001,name=named to 239.2.110.2%out0:6001"


def states(relay: mcr.Relay | mcr.Client) -> list[str]:
    """The state of each rule."""
    return [rule.state for rule in relay.stats().rules]


@pytest.mark.parametrize(
    ("general", "specific", "source"),
    [
        (GENERAL, NAMED, "10.1.0.2"),
        (
            GENERAL.replace("110.1%in0", "110.0/30%in0"),
            GENERAL.replace("general", "named").replace("239.2.110.1", "239.2.110.2"),
            "10.1.0.2",
        ),
        (
            GENERAL.replace("5001", "5000-5001"),
            GENERAL.replace("general", "named").replace("239.2.110.1", "239.2.110.2"),
            "10.1.0.2",
        ),
        (
            "ff15::110:1%in0:5001,name=general to ff15::110:2%out0:6001",
            "fd01::2@[ff15::110:1%in0]:5001,name=named to ff15::110:3%out0:6001",
            "fd01::2",
        ),
    ],
    ids=["source", "block", "range", "ipv6"],
)
def test_the_rule_without_datagrams_names_the_one_that_has_them(
    lab: Lab, ingress: Ingress, general: str, specific: str, source: str
) -> None:
    """And is warned of when it is added; while the other is disabled it gets them."""
    group = "ff15::110:1" if ":" in source else "239.1.110.1"
    with (
        relaying(lab.relay, general, ingress=ingress) as relay,
        lab.sender(group, 5001, source=(source, 0)) as sender,
    ):
        with lab.relay:
            relay.add_rule(specific)
        assert any("is more specific" in warning for warning in relay.warnings)
        sender.send([b"for the specific one"])
        wait_until(lambda: states(relay)[1] == f"flowing from {source}")
        taken = str(mcr.Rule.parse(general).input.group)
        wanted = f"frames for {taken} seen, matched by the more specific rule named"
        assert states(relay)[0] == wanted
        relay.disable_rule("named")
        assert "no frame seen" in states(relay)[0]
        sender.send([b"for both, if they could"])
        wait_until(lambda: states(relay) == [f"flowing from {source}", "disabled"])
        relay.enable_rule("named")

        def sent_again() -> list[str]:
            sender.send([b"for the specific one again"])
            return states(relay)

        has_it = "; the more specific rule named has matched datagrams since"
        wait_until(lambda: sent_again()[0].endswith(has_it))


def test_another_sender_is_for_the_general_rule(lab: Lab, ingress: Ingress) -> None:
    """What the specific one does not list is not its business, and is no loss of the other's."""
    with (
        relaying(lab.relay, GENERAL, NAMED, ingress=ingress) as relay,
        lab.sender("239.1.110.1", 5001, source=("10.1.0.3", 0)) as sender,
    ):
        sender.send([b"datagram"])
        wait_until(lambda: states(relay)[0] == "flowing from 10.1.0.3")
        assert states(relay)[1].startswith(("joined, no frame seen", "frames for 239.1.110.1 seen"))
        assert "more specific" not in states(relay)[1]


def test_what_others_send_is_not_what_the_general_rule_lacks(lab: Lab, ingress: Ingress) -> None:
    """The sender seen last has stopped; the specific rule does not take it, so cannot have it."""
    with (
        relaying(lab.relay, GENERAL, NAMED, ingress=ingress) as relay,
        lab.sender("239.1.110.1", 5001, source=("10.1.0.3", 0)) as other,
        lab.sender("239.1.110.1", 5001, source=("10.1.0.2", 0)) as listed,
    ):
        other.send([b"for the general rule"])
        wait_until(lambda: states(relay)[0] == "flowing from 10.1.0.3")

        def sent_on() -> list[str]:
            listed.send([b"for the specific one"])
            return states(relay)

        wait_until(lambda: sent_on()[0].startswith("silent for"))
        wait_until(lambda: states(relay)[1] == "flowing from 10.1.0.2")
        silent, _ = sent_on()
        assert silent.startswith("silent for")
        assert silent.endswith("last from 10.1.0.3")


def test_a_daemon_says_the_same(lab: Lab, ingress: Ingress) -> None:
    """In the warning of the change, and in the list of rules, also of one rule alone."""
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as daemon,
        daemon.client() as client,
        lab.sender("239.1.110.1", 5001, source=("10.1.0.2", 0)) as sender,
    ):
        client.add_rule(GENERAL)
        command = [MCR, "rule", "add", NAMED, "--socket", str(daemon.socket)]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "warning: rule 1, input: is more specific (sources listed) than" in told.stderr
        sender.send([b"datagram"])
        wanted = "frames for 239.1.110.1 seen, matched by the more specific rule named"
        wait_until(lambda: states(client)[0] == wanted)
        (alone,) = client.stats(["general"]).rules
        assert alone.state == wanted
        wait_until(lambda: client.rule("general").state.startswith("frames for"))

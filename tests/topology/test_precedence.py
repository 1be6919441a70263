"""A rule that a more specific one leaves nothing: its state says where the datagrams went."""

import contextlib
from typing import NamedTuple

from tests.support.deadline import wait_until
from tests.support.own_command import mcr_here

import mcr

from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying

GENERAL = "239.1.110.1%in0:5001,name=general to 239.2.110.1%out0:6001"
NAMED = "10.1.0.2@239.1.110.1%in0:5001,name=named to 239.2.110.2%out0:6001"


def states(relay: mcr.Relay | mcr.Client) -> list[str]:
    """The state of each rule."""
    return [rule.state for rule in relay.stats().rules]


class Pair(NamedTuple):
    """A rule and a more specific one, and a sender that both match."""

    general: str
    specific: str
    source: str = "10.1.0.2"

    @property
    def group(self) -> str:
        """What is sent to."""
        return str(mcr.Rule.parse(self.specific).input.group)


PAIRS = {
    "source": Pair(
        "239.1.110.1%in0:5001,name=one to 239.2.110.1%out0:6001",
        "10.1.0.2@239.1.110.1%in0:5001,name=by-source to 239.2.110.2%out0:6001",
    ),
    "block": Pair(
        "239.1.111.0/30%in0:5001,name=four to 239.2.111.1%out0:6001",
        "239.1.111.1%in0:5001,name=by-group to 239.2.111.2%out0:6001",
    ),
    "range": Pair(
        "239.1.112.1%in0:5000-5001,name=two to 239.2.112.1%out0:6001",
        "239.1.112.1%in0:5001,name=by-port to 239.2.112.2%out0:6001",
    ),
    "ipv6": Pair(
        "ff15::110:1%in0:5001,name=six to ff15::110:2%out0:6001",
        "fd01::2@[ff15::110:1%in0]:5001,name=by-source6 to ff15::110:3%out0:6001",
        "fd01::2",
    ),
}
"""Side by side in one relay, since a stream must be silent for a while before it counts as gone."""


def test_the_rule_without_datagrams_names_the_one_that_has_them(lab: Lab, ingress: Ingress) -> None:
    """And is warned of when it is added; while the other is disabled it gets them."""
    generals = {kind: mcr.Rule.parse(pair.general) for kind, pair in PAIRS.items()}
    specifics = {kind: mcr.Rule.parse(pair.specific) for kind, pair in PAIRS.items()}
    with (
        relaying(lab.relay, *generals.values(), ingress=ingress) as relay,
        contextlib.ExitStack() as stack,
    ):
        senders = [
            stack.enter_context(lab.sender(pair.group, 5001, source=(pair.source, 0)))
            for pair in PAIRS.values()
        ]

        def states() -> list[tuple[str, str]]:
            found = {rule.id: rule.state for rule in relay.stats().rules}
            return [(found[generals[kind].id], found[specifics[kind].id]) for kind in PAIRS]

        def send(text: bytes) -> None:
            for sender in senders:
                sender.send([text])

        for rule in specifics.values():
            with lab.relay:
                relay.add_rule(rule)
            assert any("is more specific" in warning for warning in relay.warnings)
        send(b"for the specific one")
        flowing = [f"flowing from {pair.source}" for pair in PAIRS.values()]
        wait_until(lambda: [of_specific for _, of_specific in states()] == flowing)
        assert [of_general for of_general, _ in states()] == [
            f"frames for {generals[kind].input.group} seen, matched by the more specific rule"
            f" {specifics[kind].name}"
            for kind in PAIRS
        ]
        for rule in specifics.values():
            relay.disable_rule(rule)
        assert all("no frame seen" in of_general for of_general, _ in states())
        send(b"for both, if they could")
        wait_until(lambda: states() == [(each, "disabled") for each in flowing])
        for rule in specifics.values():
            relay.enable_rule(rule)

        def all_have_it() -> bool:
            send(b"for the specific one again")
            return all(
                of_general.endswith(
                    f"; the more specific rule {rule.name} has matched datagrams since"
                )
                for (of_general, _), rule in zip(states(), specifics.values(), strict=True)
            )

        wait_until(all_have_it)


def test_another_sender_is_for_the_general_rule(lab: Lab, ingress: Ingress) -> None:
    """The specific rule does not list it, so its state does not concern the general one."""
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
        told = mcr_here("rule", "add", NAMED, "--socket", daemon.socket)
        assert told.code == 0
        assert "warning: rule 1, input: is more specific (sources listed) than" in told.err
        sender.send([b"datagram"])
        wanted = "frames for 239.1.110.1 seen, matched by the more specific rule named"
        wait_until(lambda: states(client)[0] == wanted)
        (alone,) = client.stats(["general"]).rules
        assert alone.state == wanted
        wait_until(lambda: client.rule("general").state.startswith("frames for"))

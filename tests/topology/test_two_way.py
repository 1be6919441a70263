"""A group relayed between two links in both directions: everything crosses once, and no storm."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcr

from .checks import settle_sent
from .daemons import serving
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads

_PAGE = Path(__file__).parents[2] / "docs" / "discovery.md"
RECIPES = re.findall(r"^```text\n(.*?)^```$", _PAGE.read_text(), re.M | re.S)
MDNS = {4: "224.0.0.251", 6: "ff02::fb"}  # RFC 6762, 3
PORT = 5353
COUNT = 40


def rules(group: str, options: str = ",ttl=255") -> tuple[str, str]:
    """One for each direction."""
    links = (("in0", "out0"), ("out0", "in0"))
    there, back = (f"{group}%{a}:{PORT} to {group}%{b}:{PORT}{options}" for a, b in links)
    return there, back


@contextlib.contextmanager
def conversing(lab: Lab, group: str, port: int = PORT) -> Iterator[None]:
    """Both ends send and listen; each has heard both, each datagram once, when the block ends."""
    sent = payloads(2 * COUNT, (200,))
    with (
        Receiver(lab.source, "s0", group, port) as left,
        Receiver(lab.receiver, "d0", group, port) as right,
        Sender(lab.source, "s0", group, port) as from_left,
        Sender(lab.receiver, "d0", group, port) as from_right,
    ):
        for mine, theirs in zip(sent[:COUNT], sent[COUNT:], strict=True):
            from_left.send([mine])
            from_right.send([theirs])
        for end in (left, right):
            end.wait_for(len(sent))
        yield
        # What is on the way by now has been counted, and would be here.
        for end in (left, right):
            assert sorted(end.drain()) == sorted(sent)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("workers", [1, 2])
def test_both_directions(lab: Lab, ingress: Ingress, family: int, workers: int) -> None:
    """One relay; nothing has to be said about loops."""
    group = MDNS[family]
    with (
        relaying(lab.relay, *rules(group), ingress=ingress, workers=workers) as relay,
        conversing(lab, group),
    ):
        silenced = [text for text in relay.warnings if "loop: is off" in text]
        assert len(silenced) == (2 if ingress == "udp" else 0), relay.warnings
        settle_sent(relay, COUNT, COUNT)


@pytest.mark.parametrize("family", [4, 6])
def test_two_relays_one_each_way(lab: Lab, ingress: Ingress, family: int) -> None:
    """They know nothing of each other, and do not feed each other."""
    group = MDNS[family]
    there, back = rules(group)
    with (
        relaying(lab.relay, there, ingress=ingress) as one,
        relaying(lab.relay, back, ingress=ingress) as other,
        conversing(lab, group),
    ):
        settle_sent(one, COUNT)
        settle_sent(other, COUNT)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda text: text.split("%")[0])
def test_the_recipes_for_discovery(lab: Lab, ingress: Ingress, recipe: str) -> None:
    """The rules of the documents work, also with the sender's address kept."""
    text = recipe.replace("%eth0", "%in0").replace("%eth1", "%out0")
    written = [mcr.Rule.parse(line) for line in text.splitlines()]
    inputs = dict.fromkeys((str(rule.input.group), rule.input.port) for rule in written)
    if ingress == "udp" and "255.255.255.255" in recipe:
        with lab.relay, pytest.raises(mcr.RuleError, match="makes a loop"):
            mcr.Relay(*written, ingress=ingress).open()
        return
    with relaying(lab.relay, *written, ingress=ingress) as relay:
        for group, port in inputs:
            assert isinstance(port, int)
            with conversing(lab, group, port):
                pass
        settle_sent(relay, *[COUNT] * len(written))


def test_a_daemon(lab: Lab, ingress: Ingress) -> None:
    """The way back comes later; one that would hear the other is refused and changes nothing."""
    group = MDNS[4]
    there, back = rules(group)
    arguments = ("--ingress", ingress, "--workers", "2")
    with serving(lab.relay, *arguments) as daemon, daemon.client() as client:
        if ingress == "udp":
            client.replace_rules([f"{there},loop=on"])
            with pytest.raises(mcr.RuleError, match=r"makes a loop.*write loop=off"):
                client.add_rule(f"{back},loop=on")
        client.replace_rules([there])
        client.add_rule(back)
        with conversing(lab, group):
            settle_sent(client, COUNT, COUNT)

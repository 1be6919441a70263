"""Rules that come and go while traffic flows, and what they leave behind: nothing."""

import os
from collections import Counter

import pytest
from tests.support.deadline import wait_until

from .checks import PROCESS_S, settle_sent
from .deaths import descriptors
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import PacedFlow, payloads

RATE_PPS = 8000
LEAST_PPS = 5000
NEIGHBOURS = [
    "239.1.40.2%in0:5001 to 239.2.40.2%out0:6001",
    "239.1.40.1%in0:5002 to 239.2.40.3%out1:6001",
    "239.1.40.1%big:5001 to 239.2.40.4%out0:6001",
    "ff15::40:1%in0:5001 to ff15::40:2%out0:6001",
]
BLOCKS_AROUND = [
    "239.1.40.0/28%in0:5000-5009 to 239.2.40.2%out0:6001",
    "10.1.0.9@239.1.40.0/26%in0:5001 to 239.2.40.3%out1:6001",
    "239.1.40.1%in0:5000-5015 to 239.2.40.4%out1:6001",
    "ff15::40:0/124%in0:5001 to 239.2.40.5%out0:6001",
    "239.1.40.16/28%big:5001 to 239.2.40.6%out0:6001",
]


@pytest.mark.parametrize("others", [NEIGHBOURS, BLOCKS_AROUND], ids=["neighbours", "blocks"])
def test_changing_another_rule_loses_nothing(
    lab: Lab, ingress: Ingress, gro: bool, others: list[str]
) -> None:
    """A hundred times another rule is added and removed, and a steady flow loses nothing."""
    with (
        lab.receive("239.2.40.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.40.1%in0:5001 to 239.2.40.1%out0:6001", ingress=ingress
        ) as relay,
        lab.sender("239.1.40.1", 5001) as sender,
    ):
        with PacedFlow(sender, RATE_PPS) as flow:
            flow.advance(100)
            with lab.relay:
                for number in range(100):
                    added = relay.add_rule(others[number % len(others)])
                    flow.advance(20)
                    relay.remove_rule(added)
        receiver.expect(flow.sent)
        settle_sent(relay, len(flow.sent))
        assert flow.achieved_pps() > LEAST_PPS


def test_second_rule_on_a_flowing_input(lab: Lab, ingress: Ingress) -> None:
    """A rule added mid-stream gets an unbroken part of the flow, the first rule all of it."""
    with (
        lab.receive("239.2.41.1", 6001) as first,
        lab.receive("239.2.41.2", 6001, "d1") as second,
        relaying(
            lab.relay, "239.1.41.1%in0:5001 to 239.2.41.1%out0:6001", ingress=ingress
        ) as relay,
        lab.sender("239.1.41.1", 5001) as sender,
    ):
        with PacedFlow(sender, RATE_PPS) as flow:
            for _ in range(5):
                second.forget()
                flow.advance(100)
                with lab.relay:
                    added = relay.add_rule("239.1.41.1%in0:5001 to 239.2.41.2%out1:6001")
                second.wait_for(200)
                relay.remove_rule(added)
                start = flow.sent.index(second.drain()[0])
                assert second.collected == flow.sent[start : start + len(second.collected)]
        first.expect(flow.sent)
        settle_sent(relay, len(flow.sent))


def test_replacing_all_rules(lab: Lab, ingress: Ingress) -> None:
    """After a replacement only the new rules flow, and a kept rule keeps its numbers."""
    kept = "239.1.42.1%in0:5001 to 239.2.42.1%out0:6001"
    sent = payloads(50)
    with (
        lab.receive("239.2.42.1", 6001) as first,
        lab.receive("239.2.42.2", 6001) as old,
        lab.receive("239.2.42.3", 6001) as new,
        relaying(
            lab.relay, kept, "239.1.42.2%in0:5001 to 239.2.42.2%out0:6001", ingress=ingress
        ) as relay,
        lab.sender("239.1.42.1", 5001) as sender,
        lab.sender("239.1.42.2", 5001) as replaced,
        lab.sender("239.1.42.3", 5001) as added,
    ):
        sender.send(sent)
        replaced.send(sent)
        first.expect(sent)
        old.expect(sent)
        with lab.relay:
            relay.replace_rules([kept, "239.1.42.3%in0:5001 to 239.2.42.3%out0:6001"])
        replaced.send([b"for nobody"])
        added.send(sent)
        sender.send(sent)
        new.expect(sent)
        first.expect(sent + sent)
        settle_sent(relay, 2 * len(sent), len(sent))
        assert old.drain() == sent


def opened() -> Counter[str]:
    """What the descriptors of this process refer to."""
    return Counter(descriptors(os.getpid()).values())


def test_removing_rules_closes_what_they_opened(lab: Lab, ingress: Ingress) -> None:
    """After adding and removing rules the process has no descriptor that it had not before."""
    rules = [
        "239.1.43.2%in0:5001 to 239.2.43.2%out0:6001 10.2.0.2:7000",
        "10.1.0.2@239.1.43.3%big:5001 to 239.2.43.3%out1:6001",
        "ff15::43:1%in0:5001 to ff15::43:2%out0:6001",
        "10.1.0.1%in0:5003 to 239.2.43.4%out0:6001",
    ]
    kept = "239.1.43.1%in0:5001 to 239.2.43.1%out0:6001"
    with relaying(lab.relay, kept, ingress=ingress) as relay:
        before = opened()
        with lab.relay:
            for _ in range(3):
                added = [relay.add_rule(rule) for rule in rules]
                assert opened() - before
                for rule in added:
                    relay.remove_rule(rule)
        # The kernel takes its time to close some, also those of tests before.
        wait_until(lambda: not opened() - before, PROCESS_S)
        assert len(relay.rules) == 1

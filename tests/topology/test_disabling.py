"""Rules that are disabled and enabled: what they would have taken is counted, none is lost."""

from .checks import settle, settle_sent
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import PacedFlow, payloads

RATE_PPS = 8000
RULE = "239.1.44.1%in0:5001,name=switched to 239.2.44.1%out0:6001"


def test_a_disabled_rule_matches_nothing_and_keeps_its_counters(lab: Lab, ingress: Ingress) -> None:
    """Its datagrams count as disabled on the interface; enabled, its counters continue."""
    with (
        lab.receive("239.2.44.1", 6001) as receiver,
        relaying(lab.relay, RULE, ingress=ingress) as relay,
        lab.sender("239.1.44.1", 5001) as sender,
    ):
        sent = payloads(60)
        sender.send(sent[:20])
        settle_sent(relay, 20)
        for _ in range(2):
            relay.disable_rule("switched")
            assert relay.stats().rules[0].state == "disabled"
        sender.send(sent[20:40])
        stats = settle(relay, lambda stats: stats.interfaces[0].dropped["disabled"] == 20)
        assert stats.rules[0].matched == 20
        relay.enable_rule("switched")
        assert relay.stats().rules[0].state.startswith("flowing")
        sender.send(sent[40:])
        settle_sent(relay, 40)
        receiver.expect(sent[:20] + sent[40:])
        assert relay.stats().interfaces[0].dropped["disabled"] == 20


def test_what_another_rule_takes_is_not_counted_as_disabled(lab: Lab, ingress: Ingress) -> None:
    """Two rules on one input: disabling one costs only its own copies."""
    other = "239.1.44.1%in0:5001 to 239.2.44.2%out1:6001"
    with (
        lab.receive("239.2.44.2", 6001, "d1") as receiver,
        relaying(lab.relay, RULE, other, ingress=ingress) as relay,
        lab.sender("239.1.44.1", 5001) as sender,
    ):
        relay.disable_rule("switched")
        sent = payloads(20)
        sender.send(sent)
        stats = settle(relay, lambda stats: stats.rules[1].outputs[0].sent == 20)
        assert stats.rules[0].matched == 0
        assert stats.interfaces[0].dropped["disabled"] == 0
        receiver.expect(sent)


def test_an_untouched_flow_loses_nothing(lab: Lab, ingress: Ingress) -> None:
    """A hundred times a rule is disabled and enabled beside a steady flow."""
    steady = "239.1.44.2%in0:5001 to 239.2.44.3%out0:6001"
    with (
        lab.receive("239.2.44.3", 6001) as receiver,
        relaying(lab.relay, steady, RULE, ingress=ingress) as relay,
        lab.sender("239.1.44.2", 5001) as sender,
    ):
        with PacedFlow(sender, RATE_PPS) as flow:
            for _ in range(100):
                relay.disable_rule("switched")
                flow.advance(10)
                relay.enable_rule("switched")
        receiver.expect(flow.sent)
        settle(relay, lambda stats: stats.rules[0].outputs[0].sent == len(flow.sent))


def test_kept_by_a_replacement_it_stays_disabled(lab: Lab, ingress: Ingress) -> None:
    """A rule that a replacement keeps stays disabled; removed and added it is not."""
    with relaying(lab.relay, ingress=ingress) as relay:
        with lab.relay:
            rule = relay.add_rule(RULE)
            relay.disable_rule(rule)
            relay.replace_rules([rule, "239.1.44.3%in0:5001 to 239.2.44.4%out0:6001"])
        assert relay.stats().rules[0].state == "disabled"
        relay.remove_rule(rule)
        with lab.relay:
            relay.add_rule(rule)
        assert relay.stats().rules[-1].state.startswith("joined")

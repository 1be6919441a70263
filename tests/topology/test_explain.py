"""What `explain` says of a datagram is what the engine then does with it."""

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.support.deadline import wait_until

import mcr
from mcr._native import parse_captured

from .checks import settle, settle_sent
from .daemons import serving
from .frames import Flow, Injector, udp_frame
from .lab import Lab
from .model import PlainRule
from .relays import Ingress, relaying
from .test_model import FLOWS, plain_rules, rule_text
from .traffic import Sender

SIZE = 200
ETHERNET = 14


@pytest.fixture(scope="module")
def senders(lab: Lab) -> Iterator[list[Sender]]:
    """A sender for each flow, kept across examples."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(lab.sender(group, port, source=(source, 0)))
            for source, group, port in FLOWS
        ]


def in_words(flow: tuple[str, str, int]) -> str:
    """A datagram of a flow as `mcr explain` reads it."""
    source, group, port = flow
    return f"{source}@{group}%in0:{port} ttl=8 size={SIZE}"


@given(
    rules=st.lists(
        st.tuples(plain_rules(), st.booleans()), min_size=1, max_size=6, unique_by=lambda x: x[0]
    )
)
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_engine_does_what_is_explained(
    lab: Lab, senders: list[Sender], ingress: Ingress, rules: list[tuple[PlainRule, bool]]
) -> None:
    """For any rules and each flow: the rules that relay it, else the reason that is counted."""
    texts = [rule_text(number, rule) for number, (rule, _) in enumerate(rules)]
    with relaying(lab.relay, ingress=ingress) as relay:
        with lab.relay:
            for text, (_, enabled) in zip(texts, rules, strict=True):
                rule = relay.add_rule(text)
                if not enabled:
                    relay.disable_rule(rule)
            answers = relay.explain(*map(in_words, FLOWS))
        for sender in senders:
            sender.send([bytes(SIZE)])
        matched = Counter(rule.rule for answer in answers for rule in answer.rules)
        outputs = [(text, rule.outputs) for text, (rule, _) in zip(texts, rules, strict=True)]
        settle_sent(
            relay, *(matched[str(mcr.Rule.parse(text))] for text, n in outputs for _ in range(n))
        )
        if ingress == "packet":  # the kernel itself drops other sources before sockets get them
            verdicts = Counter(answer.verdict for answer in answers)
            (counted,) = settle(
                relay,
                lambda stats: all(
                    stats.interfaces[0].dropped[reason] == verdicts[reason]
                    for reason in ("source", "disabled")
                ),
            ).interfaces
            assert counted.dropped["no_rule"] <= verdicts["no_rule"]


OUTPUTS = (
    "{multi}%out0:6001,ttl=9,dscp=12",
    "{multi}%out0:6002,ttl=decrement,dscp=keep",
    "{multi}%out0:6003,sport=keep,source=keep,ttl=keep",
    "[{host}]:6004,sport=4444",
)
NAMES = {
    4: {"multi": "239.2.72.1", "host": "10.2.0.2", "group": "239.1.72.1", "source": "10.1.0.2"},
    6: {"multi": "ff15::272:1", "host": "fd02::2", "group": "ff15::172:1", "source": "fd01::2"},
}


class Wire:
    """The UDP frames that arrive on an interface of the receiver."""

    def __init__(self, lab: Lab) -> None:
        with lab.receiver:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind(("d0", 3))
        self.socket.setblocking(False)
        self.frames: list[tuple[str, mcr.Datagram]] = []

    def read(self) -> int:
        """Collect what has arrived; return the number of relayed datagrams so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self.socket.recv(2000)
                # A virtual link leaves checksums unfinished.
                parsed = parse_captured(frame, None, verify=False)
                if isinstance(parsed, mcr.Datagram) and 6001 <= parsed.port <= 6004:
                    self.frames.append((frame[:6].hex(":"), parsed))
        return len(self.frames)


@pytest.mark.parametrize("version", [4, 6])
def test_copies_are_those_on_the_wire(lab: Lab, version: int, ingress: Ingress) -> None:
    """Addresses, MAC, ports, TTL, DSCP and size of each copy, as another program sees them."""
    names = NAMES[version]
    lab.set_offload(on=False)
    outputs = " ".join(text.format(**names) for text in OUTPUTS)
    if version == 4:
        outputs = outputs.replace("[", "").replace("]", "")
    rule = f"{names['group']}%in0:5001 to {outputs}"
    mac = lab.receiver.mac("d0").hex(":")
    lab.relay.ip(
        "neigh", "replace", names["host"], "lladdr", mac, "dev", "out0", "nud", "permanent"
    )
    flow = Flow(names["source"], names["group"], 5001)
    wire = Wire(lab)
    with contextlib.ExitStack() as stack:
        stack.enter_context(wire.socket)
        injector = stack.enter_context(Injector(lab.source, "s0"))
        relay = stack.enter_context(relaying(lab.relay, rule, ingress=ingress))
        with lab.relay:
            source = f"[{names['source']}]" if version == 6 else names["source"]
            (answer,) = relay.explain(f"{source}:4000@{names['group']}%in0:5001 ttl=8 size={SIZE}")
        injector.send(udp_frame(flow, bytes(SIZE)))
        settle_sent(relay, 1, 1, 1, 1)
        wait_until(lambda: wire.read() >= len(OUTPUTS))
    seen = {datagram.port: (address, datagram) for address, datagram in wire.frames}
    for copy in answer.rules[0].outputs:
        address, datagram = seen[copy.port]
        assert (copy.loss, copy.interface, copy.mac_state) == (None, "out0", "known")
        assert copy.mac == address
        assert (copy.destination, copy.ttl, copy.dscp) == (
            datagram.group,
            datagram.ttl,
            datagram.dscp,
        )
        assert copy.source_port in (None, datagram.source_port)
        assert copy.source == datagram.source
        assert copy.size_bytes == len(datagram.payload) == SIZE


def test_losses_are_foretold(lab: Lab) -> None:
    """A used-up TTL, a missing route, a size that may not be fragmented, fragments."""
    rule = (
        "239.1.72.1%in0:5001 to 239.2.72.1%out0:6001,ttl=decrement 203.0.113.9:6002"
        " 239.2.72.1%out0:6003,sport=keep,source=keep 239.2.72.1%out0:6004"
    )
    with relaying(lab.relay, rule, ingress="packet") as relay, lab.relay:
        (answer,) = relay.explain("10.1.0.2:4000@239.1.72.1%in0:5001 ttl=1 size=2000")
        assert [copy.loss for copy in answer.rules[0].outputs] == [
            *("send_error", "no_carrier", "too_big", None),
        ]
        assert answer.rules[0].outputs[3].packets == 2
        (answer,) = relay.explain("fd01::2@ff15::172:1%in0:5001 size=2000")
        assert answer.verdict == "fragment"
    with lab.sender("239.1.72.1", 5001, source=("10.1.0.2", 0)) as sender:
        sender.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        with relaying(lab.relay, rule, ingress="packet") as relay:
            sender.send([bytes(2000)])
            stats = settle(relay, lambda stats: stats.rules[0].outputs[3].sent == 1)
            lost = [
                {reason for reason, count in output.dropped.items() if count}
                for output in stats.rules[0].outputs
            ]
            assert lost == [{"send_error"}, {"no_carrier"}, {"too_big"}, set()]


def test_the_daemon_explains(lab: Lab) -> None:
    """By the protocol, in a process without rights: the same answer as a relay of this process."""
    rules = ("239.1.72.1%in0:5001,name=one to 239.2.72.1%out0:6001 10.2.0.2:6004",)
    words = ["10.1.0.2:4000@239.1.72.1%in0:5001 ttl=8 size=100", "239.1.72.1%in0:5002"]
    with relaying(lab.relay, *rules) as relay, lab.relay:
        expected = relay.explain(*words)
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rules(rules)
        assert client.explain(words) == expected
        assert expected[0].rules[0].outputs[0].source == ip_address("10.2.0.1")
        client.disable_rule("one")
        (answer,) = client.explain(words[:1])
        assert (answer.verdict, answer.others[0].reason) == ("disabled", "disabled")
        with pytest.raises(mcr.RuleError, match="port"):
            client.explain(["239.1.72.1%in0"])
        facts = mcr.DatagramFacts(ip_address("239.1.72.1"), 70000, "in0")
        with pytest.raises(mcr.ArgumentError, match="datagram 1, port"):
            client.explain([facts])

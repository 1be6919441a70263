"""The engine against a plain Python model: random rules, random traffic."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import mcr

from .checks import settle_sent
from .lab import Lab
from .model import PlainDatagram, PlainRule, relayed
from .offload import native
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads

GROUPS = ("239.1.70.1", "239.1.70.2", "ff15::70:1")
BLOCKS = ("239.1.70.0/31", "239.1.70.0/30", "ff15::70:0/126")
PORTS = (5001, 5002)
PORT_RANGES = (range(5001, 5002), range(5002, 5003), range(5001, 5003), range(5000, 5003))
SOURCES = {4: ("10.1.0.2", "10.1.0.3"), 6: ("fd01::2", "fd01::3")}
FLOWS = [
    (source, group, port)
    for group in GROUPS
    for source in SOURCES[6 if ":" in group else 4]
    for port in PORTS
]
LONGEST = 5000
PATIENCE_S = 3.0
MARKED = 2  # Payloads of at least so many bytes tell their flow and, modulo 256, their place.


@st.composite
def plain_rules(draw: st.DrawFn) -> PlainRule:
    """One rule on one of few inputs, so that rules overlap."""
    group = draw(st.sampled_from(GROUPS + BLOCKS))
    possible = SOURCES[6 if ":" in group else 4]
    return PlainRule(
        group=group,
        ports=draw(st.sampled_from(PORT_RANGES)),
        sources=draw(st.frozensets(st.sampled_from(possible))),
        outputs=draw(st.integers(1, 3)),
    )


sizes = st.one_of(st.sampled_from([0, 1, 200, 1400, 1452, 1472]), st.integers(0, LONGEST))
bursts = st.tuples(st.integers(0, len(FLOWS) - 1), sizes, st.integers(1, 20))
# The kernel passes fragments to the engine, which takes longer: they would be overtaken.
whole_bursts = st.tuples(st.integers(0, len(FLOWS) - 1), st.integers(0, 1400), st.integers(1, 20))
NOISE = payloads(1, (LONGEST,))[0]


@pytest.fixture(scope="module")
def senders(lab: Lab) -> Iterator[list[Sender]]:
    """A sender for each flow, kept across examples."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(lab.sender(group, port, source=(source, 0)))
            for source, group, port in FLOWS
        ]


def rule_text(number: int, rule: PlainRule) -> str:
    """The rule as text; every output is another group."""
    sources = "+".join(sorted(rule.sources))
    outputs = " ".join(
        f"239.2.70.{number}%out{output % 2}:{6000 + output}" for output in range(rule.outputs)
    )
    ports = f"{rule.ports[0]}-{rule.ports[-1]}"
    return f"{sources}{'@' if sources else ''}{rule.group}%in0:{ports} to {outputs}"


def expand(traffic: list[tuple[int, int, int]]) -> list[tuple[int, PlainDatagram]]:
    """The datagrams of the bursts, each with the number of its flow."""
    return [
        (flow, PlainDatagram(*FLOWS[flow], (bytes([flow, number % 256]) + NOISE)[:size]))
        for number, (flow, size) in enumerate(
            (flow, size) for flow, size, count in traffic for _ in range(count)
        )
    ]


def check(receiver: Receiver, expected: list[bytes]) -> None:
    """Compare the payloads, and their order within each flow."""
    received = receiver.wait_for(len(expected), PATIENCE_S)
    assert Counter(received) == Counter(expected)
    for flow in range(len(FLOWS)):
        arrived, wanted = (
            [one for one in some if len(one) >= MARKED and one[0] == flow]
            for some in (received, expected)
        )
        assert arrived == wanted


@given(
    rules=st.lists(plain_rules(), min_size=1, max_size=6),
    traffic=st.lists(bursts, min_size=1, max_size=12),
)
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # Shrinking would wait for losses.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_engine_does_what_the_model_says(
    lab: Lab,
    senders: list[Sender],
    ingress: Ingress,
    gro: bool,
    rules: list[PlainRule],
    traffic: list[tuple[int, int, int]],
) -> None:
    """For any rules and traffic each output gets what the model computes."""
    compare(lab, senders, relaying, ingress, rules, traffic)


@given(
    rules=st.lists(plain_rules(), min_size=1, max_size=6),
    traffic=st.lists(whole_bursts, min_size=1, max_size=12),
)
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_kernel_and_engine_do_what_the_model_says(
    lab: Lab,
    senders: list[Sender],
    ingress: Ingress,
    rules: list[PlainRule],
    traffic: list[tuple[int, int, int]],
) -> None:
    """The same, whoever relays each of the rules."""
    native(lab)
    start = functools.partial(relaying, offload="auto")
    compare(lab, senders, start, ingress, rules, traffic)


def compare(
    lab: Lab,
    senders: list[Sender],
    start: Callable[..., AbstractContextManager[mcr.Relay]],
    ingress: Ingress,
    rules: list[PlainRule],
    traffic: list[tuple[int, int, int]],
) -> None:
    """Run the rules in a relay, and compare what each output gets with the model."""
    datagrams = expand(traffic)
    results = relayed(rules, (datagram for _, datagram in datagrams), ingress=ingress)
    texts = [rule_text(number, rule) for number, rule in enumerate(rules)]
    with contextlib.ExitStack() as stack:
        outputs = [
            (number, stack.enter_context(lab.receive(f"239.2.70.{number}", port, device)))
            for number, rule in enumerate(rules)
            for port, device in ((6000 + n, f"d{n % 2}") for n in range(rule.outputs))
        ]
        relay = stack.enter_context(start(lab.relay, *texts, ingress=ingress))
        for flow, datagram in datagrams:
            senders[flow].send([datagram.payload])
        for number, receiver in outputs:
            check(receiver, results[number])
        settle_sent(relay, *(len(results[number]) for number, _ in outputs))

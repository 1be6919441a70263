"""Rules, inputs and outputs of every kind, as Hypothesis draws them."""

from functools import cache
from ipaddress import ip_network
from typing import Literal

from hypothesis import strategies as st

from mcr.errors import RuleError
from mcr.rules import Input, Output, Rule, fields
from mcr.rules.expectation import Expectation
from mcr.rules.fields import Address, Network


def usable(address: Address) -> bool:
    """Whether a field takes this address at all."""
    try:
        Output(address, 1)
    except RuleError:
        return False
    return True


def usable_source(address: Address) -> bool:
    """Whether datagrams can come from this address."""
    try:
        fields.source(address)
    except fields.Invalid:
        return False
    return True


ADDRESSES = st.ip_addresses().filter(usable)
GROUPS = st.one_of(
    st.ip_addresses(network="224.0.0.0/4"), st.ip_addresses(network="ff3e::/16")
).filter(usable)
HOSTS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True)
PORTS = st.integers(1, 65535)
NAMES = st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters=","), min_size=1)
INTERFACES = st.from_regex(r"[a-z][a-z0-9._-]{0,14}", fullmatch=True)
KERNEL_INTERFACES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"),
    min_size=1,
    max_size=127,
).filter(lambda name: name not in {".", ".."})

# Built once: hypothesis looks into each strategy that it sees for the first time.
_TARGETS = st.one_of(GROUPS, ADDRESSES)
_TARGETS_OR_HOSTS = st.one_of(GROUPS, ADDRESSES, HOSTS)
_SOURCES = {
    version: st.lists(st.ip_addresses(v=version).filter(usable_source), max_size=3, unique=True)
    for version in (4, 6)
}
_BOOLEANS = st.booleans()
_VLANS = st.one_of(st.none(), st.integers(1, 4094))
_SEQUENCES = st.sampled_from(
    [None, "none", "rtp", "rtp/90000", "ts", "mold", "mcr", "0:8", "4:32", "9:16le", "65527:64le"]
)
_JOINS: dict[bool, st.SearchStrategy[Literal["each", "none"] | None]] = {
    True: st.sampled_from([None, "none"]),
    False: st.sampled_from([None, "none", "each"]),
}
_TTLS: st.SearchStrategy[int | Literal["keep", "decrement"] | None] = st.one_of(
    st.none(), st.integers(1, 255), st.just("keep"), st.just("decrement")
)
_DSCPS: st.SearchStrategy[int | Literal["keep"]] = st.one_of(st.integers(0, 63), st.just("keep"))
_SOURCE_PORTS: st.SearchStrategy[int | Literal["keep"] | None] = st.one_of(
    st.none(), PORTS, st.just("keep")
)
_LOOPS = st.sampled_from([None, True, False])
_PRIORITIES = st.one_of(st.none(), st.integers(0, 6))
_BITS = st.one_of(st.just(0), st.integers(0, 28))
_PORT_COUNTS = st.one_of(st.just(1), st.integers(1, 5000))
_OUTPUT_COUNTS = st.integers(1, 4)
_EXPECTATIONS = st.one_of(
    st.none(),
    st.builds(
        Expectation,
        silence_ms=st.one_of(st.none(), st.integers(100, 86_400_000)),
        pps=st.one_of(st.none(), st.integers(1, 10**9)),
        bits_per_s=st.one_of(st.none(), st.integers(1000, 10**12)),
        sources=st.one_of(st.none(), st.integers(1, 1000)),
    ),
)
_MERGES = st.sampled_from(["rtp", "mold", "hash", "failover", "seq:4:32", "seq:9:16le"])
_AFTERS = st.sampled_from([None, "1ms", "200ms", "60s"])
_LATES: st.SearchStrategy[Literal["send", "drop"] | None] = st.sampled_from([None, "send", "drop"])
_REORDERS = st.sampled_from([None, "1ms", "5ms", "500ms"])
_INPUT_COUNTS = st.integers(2, 4)
_RULE_NAMES = st.one_of(st.none(), NAMES.filter(lambda name: len(name) <= 64))


@cache
def _optional(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    return st.one_of(st.none(), strategy)


def _block(draw: st.DrawFn, bits: int) -> Network:
    """Any block of groups with this many variable bits."""
    first = draw(GROUPS)
    return ip_network((first, first.max_prefixlen - bits), strict=False)


def _ports(draw: st.DrawFn, count: int) -> range:
    """So many ports in a row."""
    first = 1 + (draw(PORTS) - 1) % (65536 - count)
    return range(first, first + count)


def _input(
    draw: st.DrawFn, interfaces: st.SearchStrategy[str], bits: int, port_count: int
) -> Input:
    group = _block(draw, bits) if bits else draw(_TARGETS)
    return Input(
        group,
        _ports(draw, port_count),
        interface=draw(_optional(interfaces)),
        sources=draw(_SOURCES[group.version]),
        vlan=draw(_VLANS),
        join=draw(_JOINS[bits > 12]) if group.is_multicast else None,
        seq=draw(_SEQUENCES),
    )


def _output(
    draw: st.DrawFn, interfaces: st.SearchStrategy[str], bits: int, port_count: int
) -> Output:
    takes_block = bits > 0 and draw(_BOOLEANS)
    address = _block(draw, bits) if takes_block else draw(_TARGETS_OR_HOSTS)
    source = draw(_SOURCES[4 if isinstance(address, str) else address.version])
    return Output(
        address,
        _ports(draw, port_count) if draw(_BOOLEANS) else draw(PORTS),
        interface=draw(_optional(interfaces)),
        ttl=draw(_TTLS),
        dscp=draw(_DSCPS),
        source=source[0] if source else None,
        source_port=draw(_SOURCE_PORTS),
        loop=draw(_LOOPS),
        priority=draw(_PRIORITIES),
    )


@st.composite
def inputs(draw: st.DrawFn, interfaces: st.SearchStrategy[str] = INTERFACES) -> Input:
    """Any input for one group and one port."""
    return _input(draw, interfaces, 0, 1)


@st.composite
def outputs(draw: st.DrawFn, interfaces: st.SearchStrategy[str] = INTERFACES) -> Output:
    """Any output, with any of the options, of an input for one group and one port."""
    return _output(draw, interfaces, 0, 1)


@st.composite
def merging_rules(draw: st.DrawFn, interfaces: st.SearchStrategy[str] = INTERFACES) -> Rule:
    """Any rule with several inputs."""
    count = draw(_INPUT_COUNTS)
    first, *others = draw(
        st.lists(inputs(interfaces), min_size=count, max_size=count, unique_by=str)
    )
    merge = draw(_MERGES)
    has_numbers = merge not in {"hash", "failover"}
    late = draw(_LATES) if has_numbers else None
    return Rule(
        first,
        [draw(outputs(interfaces)) for _ in range(draw(_OUTPUT_COUNTS))],
        others=others,
        name=draw(_RULE_NAMES),
        expect=draw(_EXPECTATIONS),
        merge=merge,
        late=late,
        after=draw(_AFTERS) if merge == "failover" else None,
        reorder=draw(_REORDERS) if has_numbers and late != "send" else None,
    )


@st.composite
def rules(draw: st.DrawFn, interfaces: st.SearchStrategy[str] = INTERFACES) -> Rule:
    """Any rule, for one group or a block of them, and for one port or a range."""
    bits, port_count = draw(_BITS), draw(_PORT_COUNTS)
    made = [_output(draw, interfaces, bits, port_count) for _ in range(draw(_OUTPUT_COUNTS))]
    name, expect = draw(_RULE_NAMES), draw(_EXPECTATIONS)
    return Rule(_input(draw, interfaces, bits, port_count), made, name=name, expect=expect)

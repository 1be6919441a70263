"""Rules, inputs and outputs of every kind, as Hypothesis draws them."""

from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from mcr.errors import RuleError
from mcr.rules import Input, Output, Rule, fields
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


@st.composite
def blocks(draw: st.DrawFn, bits: int) -> Network:
    """Any block of groups in which so many bits vary."""
    first = draw(GROUPS)
    return ip_network((first, first.max_prefixlen - bits), strict=False)


@st.composite
def port_ranges(draw: st.DrawFn, count: int) -> range:
    """So many ports in a row."""
    first = draw(st.integers(1, 65536 - count))
    return range(first, first + count)


@st.composite
def sources_of(draw: st.DrawFn, group: Address | Network) -> list[Address]:
    """Some senders of the group's family."""
    senders = st.ip_addresses(v=4 if group.version == 4 else 6)
    unicast = senders.filter(usable_source)
    return draw(st.lists(unicast, max_size=3, unique=True))


@st.composite
def inputs(
    draw: st.DrawFn,
    interfaces: st.SearchStrategy[str] = INTERFACES,
    bits: int = 0,
    ports: int = 1,
) -> Input:
    """Any input with so many bits that vary in its group, and so many ports."""
    group = draw(blocks(bits) if bits else st.one_of(GROUPS, ADDRESSES))
    joins = [None, "none"] if bits > 12 else [None, "none", "each"]
    return Input(
        group,
        draw(port_ranges(ports)),
        interface=draw(st.one_of(st.none(), interfaces)),
        sources=draw(sources_of(group)),
        vlan=draw(st.one_of(st.none(), st.integers(1, 4094))),
        join=draw(st.sampled_from(joins)) if group.is_multicast else None,
    )


@st.composite
def outputs(
    draw: st.DrawFn,
    interfaces: st.SearchStrategy[str] = INTERFACES,
    bits: int = 0,
    ports: int = 1,
) -> Output:
    """Any output, with any of the options, that fits such an input."""
    address = draw(st.one_of(GROUPS, ADDRESSES, HOSTS, *([blocks(bits)] if bits else [])))
    source = draw(sources_of(ip_address("192.0.2.1") if isinstance(address, str) else address))
    return Output(
        address,
        draw(st.one_of(PORTS, port_ranges(ports))),
        interface=draw(st.one_of(st.none(), interfaces)),
        ttl=draw(st.one_of(st.none(), st.integers(1, 255), st.just("keep"), st.just("decrement"))),
        dscp=draw(st.one_of(st.integers(0, 63), st.just("keep"))),
        source=source[0] if source else None,
        source_port=draw(st.one_of(st.none(), PORTS, st.just("keep"))),
        loop=draw(st.sampled_from([None, True, False])),
        priority=draw(st.one_of(st.none(), st.integers(0, 6))),
    )


@st.composite
def rules(draw: st.DrawFn, interfaces: st.SearchStrategy[str] = INTERFACES) -> Rule:
    """Any rule."""
    bits = draw(st.one_of(st.just(0), st.integers(0, 28)))
    ports = draw(st.one_of(st.just(1), st.integers(1, 5000)))
    several = st.lists(outputs(interfaces, bits, ports), min_size=1, max_size=4)
    names = st.one_of(st.none(), NAMES.filter(lambda name: len(name) <= 64))
    return Rule(draw(inputs(interfaces, bits, ports)), draw(several), name=draw(names))

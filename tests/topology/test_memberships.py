"""Memberships and sockets, from opening to closing, as the kernel's tables show them."""

import sys
from ipaddress import IPv4Address, IPv6Address

from tests.support.deadline import wait_until

from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress, relaying


def igmp(namespace: Namespace) -> set[tuple[str, str]]:
    """The IPv4 groups joined, as (interface, group), from /proc/net/igmp."""
    joined, device = set(), ""
    for line in namespace.run("cat", "/proc/net/igmp").splitlines()[1:]:
        words = line.split()
        if not line[0].isspace():
            device = words[1]
        else:
            number = int(words[0], 16).to_bytes(4, sys.byteorder)
            joined.add((device, str(IPv4Address(number))))
    return joined


def igmp6(namespace: Namespace) -> set[tuple[str, str]]:
    """The IPv6 groups joined, as (interface, group), from /proc/net/igmp6."""
    lines = [line.split() for line in namespace.run("cat", "/proc/net/igmp6").splitlines()]
    return {(words[1], str(IPv6Address(bytes.fromhex(words[2])))) for words in lines}


def source_joins(namespace: Namespace) -> set[tuple[str, str, str]]:
    """Source-specific joins, as (interface, group, source), from /proc/net/mcfilter and 6."""
    found = set()
    for name, read in (("mcfilter", _hex4), ("mcfilter6", _hex6)):
        for line in namespace.run("cat", f"/proc/net/{name}").splitlines()[1:]:
            _, device, group, source, included, _ = line.split()
            if int(included):
                found.add((device, read(group), read(source)))
    return found


def joined(namespace: Namespace) -> set[tuple[str, ...]]:
    """All memberships of a namespace except the kernel's own."""
    found = igmp(namespace) | igmp6(namespace) | source_joins(namespace)
    return {each for each in found if not each[1].startswith(("224.0.0.", "ff01:", "ff02:"))}


def _hex4(word: str) -> str:
    return str(IPv4Address(int(word, 16)))


def _hex6(word: str) -> str:
    return str(IPv6Address(bytes.fromhex(word)))


def packet_sockets(namespace: Namespace) -> int:
    """The number of AF_PACKET sockets in the namespace, from /proc/net/packet."""
    return len(namespace.run("cat", "/proc/net/packet").splitlines()) - 1


def udp_sockets(namespace: Namespace) -> int:
    """The number of bound UDP sockets in the namespace."""
    tables = (namespace.run("cat", f"/proc/net/{name}") for name in ("udp", "udp6"))
    return sum(len(table.splitlines()) - 1 for table in tables)


def joins(namespace: Namespace) -> set[tuple[str, str]]:
    """All groups except those that the kernel joins by itself."""
    own = ("224.0.0.1", "ff01::1", "ff02::1")
    return {
        (device, group)
        for device, group in igmp(namespace) | igmp6(namespace)
        if group not in own and not group.startswith("ff02::1:ff")
    }


def nothing_left(namespace: Namespace) -> bool:
    """Whether nothing of a relay is left; only relays open sockets in this namespace."""
    return not joins(namespace) and packet_sockets(namespace) + udp_sockets(namespace) == 0


def test_joins_are_visible_and_end(lab: Lab, ingress: Ingress) -> None:
    """Memberships exist while a rule needs them, and end with the last rule."""
    rules = [
        "239.1.50.1%in0:5001 to 239.2.50.1%out0:6001",
        "239.1.50.1%in0:5002 to 239.2.50.2%out0:6001",
        "239.1.50.2%bare:5001 to 239.2.50.3%out0:6001",
        "ff15::50:1%big:5001 to 239.2.50.4%out0:6001",
    ]
    shared, others = ("in0", "239.1.50.1"), {("bare", "239.1.50.2"), ("big", "ff15::50:1")}
    wait_until(lambda: nothing_left(lab.relay))
    with relaying(lab.relay, *rules, ingress=ingress) as relay:
        assert joins(lab.relay) == {shared} | others
        assert packet_sockets(lab.relay) == (3 if ingress == "packet" else 0)
        first, second, *rest = relay.rules
        relay.remove_rule(first)
        assert joins(lab.relay) == {shared} | others
        relay.remove_rule(second)
        wait_until(lambda: joins(lab.relay) == others)
        wait_until(lambda: packet_sockets(lab.relay) == (2 if ingress == "packet" else 0))
        for rule in rest:
            relay.remove_rule(rule)
        wait_until(lambda: nothing_left(lab.relay))


def test_source_specific_joins(lab: Lab, ingress: Ingress) -> None:
    """A rule with sources joins them only, in IPv4 and IPv6."""
    with relaying(
        lab.relay,
        "10.1.0.2+10.1.0.3@232.1.51.1%in0:5001 to 239.2.51.1%out0:6001",
        "fd01::2@ff35::51:1%in0:5001 to 239.2.51.2%out0:6001",
        ingress=ingress,
    ):
        assert source_joins(lab.relay) == {
            ("in0", "232.1.51.1", "10.1.0.2"),
            ("in0", "232.1.51.1", "10.1.0.3"),
            ("in0", "ff35::51:1", "fd01::2"),
        }
    wait_until(lambda: source_joins(lab.relay) == set())


def test_closing_leaves_nothing(lab: Lab, ingress: Ingress) -> None:
    """No socket and no membership."""
    with relaying(
        lab.relay,
        "239.1.52.1%in0:5001 to 239.2.52.1%out0:6001 10.2.0.2:7000",
        "ff15::52:1%big:5001 to ff15::52:2%out1:6001",
        ingress=ingress,
    ):
        assert not nothing_left(lab.relay)
    wait_until(lambda: nothing_left(lab.relay))


def test_many_groups_are_joined(lab: Lab, ingress: Ingress) -> None:
    """Sixty groups are more than one socket may join; all of them are joined."""
    groups = [f"239.1.53.{number}" for number in range(60)]
    rules = [f"{group}%in0:5001 to 239.2.53.1%out0:6001" for group in groups]
    with relaying(lab.relay, *rules, ingress=ingress):
        assert {("in0", group) for group in groups} <= igmp(lab.relay)

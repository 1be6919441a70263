"""A fake interface table, and rules checked against it."""

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

import pytest

from mcr.choices import Ingress
from mcr.errors import Problem, RuleError
from mcr.rules import Rule
from mcr.rules.fields import Address
from mcr.rules.ruleset import Resolution, RuleSet, resolve


@dataclass(frozen=True)
class FakeInterface:
    """An interface as the native module lists it."""

    name: str
    index: int
    addresses: tuple[Address, ...] = ()
    up: bool = True
    multicast: bool = True
    loopback: bool = False
    broadcasts: tuple[IPv4Address, ...] = ()
    altnames: tuple[str, ...] = ()


def addresses(*texts: str) -> tuple[Address, ...]:
    """Parse addresses."""
    return tuple(ip_address(text) for text in texts)


LO = FakeInterface("lo", 1, addresses("127.0.0.1", "::1"), multicast=False, loopback=True)
ETH0 = FakeInterface("eth0", 2, addresses("10.0.0.1", "fe80::1"))
ETH1 = FakeInterface("eth1", 3, addresses("10.0.1.1", "2001:db8::1"))
V4_ONLY = FakeInterface("v4only", 4, addresses("10.0.2.1"))
BARE = FakeInterface("bare", 5)
DOWN = FakeInterface("down", 6, addresses("10.0.3.1"), up=False)
TUN = FakeInterface("tun0", 7, addresses("10.0.4.1"), multicast=False)
HOST = (LO, ETH0, ETH1, V4_ONLY, BARE, DOWN, TUN)
PLAIN = "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"
BACK = "239.2.0.1%eth1:6001 to 239.1.1.1%eth0:5001"


def check(*rules: Rule | str, ingress: Ingress = "packet") -> Resolution:
    """The rules, resolved on the fake host."""
    return resolve(rules, HOST, ingress=ingress)


def problems(*rules: Rule | str, ingress: Ingress = "packet") -> list[Problem]:
    """All problems of the rules."""
    with pytest.raises(RuleError) as caught:
        check(*rules, ingress=ingress)
    return list(caught.value.problems)


def running(*rules: str) -> RuleSet:
    """A rule set with these rules, on the ingress that hears what this host sends."""
    rule_set = RuleSet("udp")
    rule_set.commit(rule_set.plan(HOST, add=rules))
    return rule_set


def refused(rule_set: RuleSet, *add: str, remove: tuple[str, ...] = ()) -> list[Problem]:
    """The problems of a change, which must leave the running rules as they are."""
    before = rule_set.rules
    with pytest.raises(RuleError) as caught:
        rule_set.plan(HOST, remove=remove, add=add)
    assert rule_set.rules == before
    return list(caught.value.problems)

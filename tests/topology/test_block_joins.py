"""What is joined for blocks of groups, or taken without a join, as the kernel shows it."""

import contextlib
import time
from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

from .checks import settle_sent
from .lab import Lab
from .namespaces import Namespace, Net
from .relays import Ingress, relaying
from .test_memberships import igmp, joins, nothing_left
from .test_patterns import expect_all, places, scatter

IFF_ALLMULTI = 0x200
JOINING_S = 5.0  # a tenth of a second where nothing else runs


def all_multicast(namespace: Namespace, interface: str) -> bool:
    """Whether the interface accepts all multicast."""
    flags = int(namespace.run("cat", f"/sys/class/net/{interface}/flags"), 16)
    return bool(flags & IFF_ALLMULTI)


def test_each_group_of_a_block_is_joined(lab: Lab, ingress: Ingress) -> None:
    """Memberships exist while a rule needs them; shared ones end last."""
    rules = [
        "239.1.87.0/27%in0:5001 to 239.2.87.1%out0:6001",
        "239.1.87.4%in0:5001-5002 to 239.2.87.2%out0:6001",
        "10.1.0.2@232.1.87.0/30%in0:5001 to 239.2.87.3%out0:6001",
        "ff15::87:0/124%in0:5001 to 239.2.87.4%out0:6001",
    ]
    block = {("in0", f"239.1.87.{last}") for last in range(32)}
    sources = {("in0", f"232.1.87.{last}") for last in range(4)}
    v6 = {("in0", f"ff15::87:{last:x}") for last in range(1, 16)} | {("in0", "ff15::87:0")}
    wait_until(lambda: nothing_left(lab.relay))
    with relaying(lab.relay, *rules, ingress=ingress) as relay:
        assert joins(lab.relay) == block | sources | v6
        assert not all_multicast(lab.relay, "in0")
        for left in ({("in0", "239.1.87.4")} | sources | v6, sources | v6, v6, set()):
            relay.remove_rule(relay.rules[0])
            wait_until(lambda left=left: joins(lab.relay) == left)  # type: ignore[misc]
        wait_until(lambda: nothing_left(lab.relay))


def test_without_a_join_the_interface_accepts_all_multicast(lab: Lab) -> None:
    """With `join=none` ALLMULTI is on while a rule needs it, and datagrams are relayed."""
    wait_until(lambda: nothing_left(lab.relay))
    with (
        lab.receive("239.2.88.1", 6001) as receiver,
        relaying(
            lab.relay,
            "239.1.88.0/28%in0:5001,join=none to 239.2.88.1%out0:6001",
            "239.1.88.77%in0:5001,join=none to 239.2.88.1%out0:6001",
            "10.2.0.1%out0:5001 to 10.2.0.2:7000",
            ingress="packet",
        ) as relay,
        lab.sender("239.1.88.1", 5001) as sender,
    ):
        assert sum("no group is joined" in warning for warning in relay.warnings) == 2
        assert relay.stats().rules[0].state == "bound, no frame seen on in0"
        assert not joins(lab.relay)
        assert all_multicast(lab.relay, "in0")
        assert not all_multicast(lab.relay, "out0")
        expect_all(receiver, scatter(sender, [("239.1.88.9", 5001), ("239.1.88.77", 5001)]))
        settle_sent(relay, 1, 1, 0)
        block, single, _ = relay.rules
        relay.remove_rule(block)
        assert all_multicast(lab.relay, "in0")
        with lab.relay:
            relay.add_rule("239.1.88.78%in0:5001 to 239.2.88.1%out0:6001")
        relay.remove_rule(single)
        wait_until(lambda: not all_multicast(lab.relay, "in0"))
        assert joins(lab.relay) == {("in0", "239.1.88.78")}
        with lab.relay:
            relay.add_rule(single)
        assert all_multicast(lab.relay, "in0")
    wait_until(lambda: not all_multicast(lab.relay, "in0"))


@contextlib.contextmanager
def macvlan(namespace: Namespace, name: str, parent: str) -> Iterator[None]:
    """An interface that filters groups as a network card does, for the time of the block."""
    namespace.ip("link", "add", name, "link", parent, "type", "macvlan", "mode", "bridge")
    try:
        namespace.set_up(name, up=True)
        yield
    finally:
        namespace.ip("link", "del", name)


@pytest.mark.parametrize("join", ["each", "none"])
def test_an_interface_that_filters_groups_delivers(lab: Lab, join: str) -> None:
    """On a macvlan nothing comes unasked: memberships bring the groups, and so does ALLMULTI."""
    with (
        macvlan(lab.relay, "mac0", "in0"),
        lab.receive("239.2.89.1", 6001) as receiver,
        relaying(
            lab.relay,
            f"239.1.89.0/28%mac0:5000-5003,join={join} to 239.2.89.1%out0:6001",
            ingress="packet",
        ) as relay,
        lab.sender("239.1.89.0", 5000) as sender,
    ):
        sent = scatter(sender, places("239.1.89.0/28", range(5000, 5004)))
        expect_all(receiver, sent)
        settle_sent(relay, len(sent))


def test_a_bridge_goes_on_snooping(net: Net) -> None:
    """What a rule joins by itself leaves room in a bridge; more are joined with a warning only.

    A bridge that is full reports it to nobody, and floods from then on.
    """
    switch, relay = net.namespace(), net.namespace()
    switch.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "1")
    switch.set_up("br0", up=True)
    net.link(switch, "port", relay, "in0")
    switch.ip("link", "set", "port", "master", "br0")
    relay.address("in0", "10.7.0.1/24")

    def is_snooping() -> bool:
        return switch.run("cat", "/sys/class/net/br0/bridge/multicast_snooping").strip() == "1"

    def kept() -> int:
        return switch.run("bridge", "mdb", "show", "dev", "br0").count(" grp 239.")

    rules = ("239.16.0.0/21%in0:5001 to 127.0.0.1:6001", "239.32.0.0/20%in0:5001 to 127.0.0.1:6001")
    with relaying(relay, rules[0], ingress="packet") as running:
        wait_until(lambda: kept() == 2048)
        assert not any("bridge" in warning for warning in running.warnings)
        with relay:
            running.add_rule(rules[1])
        assert any("more than the 2048 that a rule joins" in text for text in running.warnings)
        assert (kept(), is_snooping()) == (2048, True)
        with relay:
            running.replace_rules([rules[1].replace(":5001", ":5001,join=each")])
        assert any("Linux bridge on the way" in warning for warning in running.warnings)


def test_4096_groups_are_joined_and_left_in_time(lab: Lab) -> None:
    """The most that a rule joins takes a moment; one more bit and nothing is joined."""
    rule = "239.16.0.0/20%in0:5001,join=each to 239.2.90.1%out0:6001"
    with relaying(
        lab.relay, "239.1.90.1%in0:5001 to 239.2.90.1%out0:6001", ingress="packet"
    ) as relay:
        with lab.relay:
            start = time.monotonic()
            added = relay.add_rule(rule)
            joined = time.monotonic()
            assert sum(group.startswith("239.16.") for _, group in igmp(lab.relay)) == 4096
            leaving = time.monotonic()
            relay.remove_rule(added)
            left = time.monotonic()
        assert joined - start < JOINING_S
        assert left - leaving < JOINING_S
        wait_until(lambda: joins(lab.relay) == {("in0", "239.1.90.1")})
        with lab.relay:
            relay.add_rule("239.16.0.0/19%in0:5001 to 239.2.90.1%out0:6001")
        assert joins(lab.relay) == {("in0", "239.1.90.1")}
        assert any("8192 groups, more than the 2048" in warning for warning in relay.warnings)

"""A relay behind a bridge that snoops IGMP and asks for memberships itself."""

import json

import pytest
from tests.support.deadline import wait_until

from .checks import settle
from .lab import Lab
from .namespaces import Namespace, Net
from .relays import Ingress, relaying
from .traffic import Receiver, Sender, payloads

GROUP = "239.9.0.1"
QUERIES = 3
"""So many a second apart: longer than the two seconds after which a silent member is forgotten."""
HUNDREDTHS = {
    "mcast_query_interval": 100,
    "mcast_startup_query_interval": 100,
    "mcast_query_response_interval": 50,
    "mcast_membership_interval": 200,
    "mcast_last_member_interval": 10,
}


@pytest.fixture(scope="module")
def switch(net: Net, lab: Lab) -> tuple[Namespace, Namespace]:
    """A bridge that snoops, and a sender; the relay is at its `port`."""
    bridge, sender = net.namespace(), net.namespace()
    times = [word for name, value in HUNDREDTHS.items() for word in (name, str(value))]
    flags = ("mcast_snooping", "1", "mcast_stats_enabled", "1")
    bridge.ip("link", "add", "br0", "type", "bridge", *flags, *times)
    # Afterwards: it trusts its memberships only a response interval after this.
    bridge.ip("link", "set", "br0", "type", "bridge", "mcast_querier", "1")
    bridge.set_up("br0", up=True)
    for port, host, name in (("from", sender, "out"), ("port", lab.relay, "snooped")):
        net.link(bridge, port, host, name)
        bridge.ip("link", "set", port, "master", "br0")
    # Otherwise the bridge floods groups without members.
    bridge.run("bridge", "link", "set", "dev", "port", "mcast_flood", "off")
    sender.address("out", "10.9.0.2/24")
    lab.relay.address("snooped", "10.9.0.1/24")
    return bridge, sender


def queries(bridge: Namespace) -> int:
    """How often the bridge has asked for IPv4 memberships."""
    shown = json.loads(bridge.ip("-j", "link", "xstats", "type", "bridge", "dev", "br0"))
    return int(shown[0]["multicast"]["igmp_queries"]["rx_v2"])


def arrives(sender: Sender, receiver: Receiver) -> bool:
    """Send a probe; whether any has arrived."""
    sender.send([b"probe"])
    return bool(receiver.drain())


def is_member(bridge: Namespace) -> bool:
    """Whether the bridge forwards the group to the relay's port."""
    return f"port port grp {GROUP}" in bridge.run("bridge", "mdb", "show", "dev", "br0")


def test_a_stream_survives_queries_and_ends_with_its_rule(
    switch: tuple[Namespace, Namespace], lab: Lab, ingress: Ingress
) -> None:
    """The kernel answers each query for the relay; without the rule the bridge sends nothing."""
    bridge, source = switch
    sent = payloads(100)
    rule = f"{GROUP}%snooped:5001 to 239.9.1.1%out0:6001"
    with (
        lab.receive("239.9.1.1", 6001) as receiver,
        Sender(source, "out", GROUP, 5001) as sender,
        relaying(lab.relay, rule, ingress=ingress) as relay,
    ):
        # For a moment the bridge trusts no membership, and forwards nothing.
        wait_until(lambda: arrives(sender, receiver))
        receiver.forget()
        before = relay.stats().rules[0].matched
        until = queries(bridge) + QUERIES
        sender.send(sent[:50])
        wait_until(lambda: queries(bridge) >= until)
        assert is_member(bridge)
        sender.send(sent[50:])
        receiver.wait_for_payload(sent[-1])
        assert [datagram for datagram in receiver.collected if datagram != b"probe"] == sent
        settle(relay, lambda stats: stats.rules[0].matched >= before + len(sent))
        relay.remove_rule(relay.rules[0].id)
        wait_until(lambda: not is_member(bridge))
        before = bridge.frames("port")[1]
        sender.send(sent)
        assert bridge.frames("port")[1] - before < len(sent)

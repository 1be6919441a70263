"""`mcr doctor` on a bridge that snoops: whether anything asks for memberships there."""

import pytest
from tests.support.deadline import wait_until

import mcr

from .lab import Lab
from .namespaces import Namespace, Net


@pytest.fixture(scope="module")
def peer(net: Net, lab: Lab) -> Namespace:
    """A host beyond a port of the bridge `snoop0` of the relay, with a bridge of its own."""
    peer = net.namespace()
    lab.relay.ip("link", "add", "snoop0", "type", "bridge", "mcast_snooping", "1")
    lab.relay.address("snoop0", "10.8.0.1/24", "fd08::1/64")
    net.link(lab.relay, "sport", peer, "pport")
    lab.relay.ip("link", "set", "sport", "master", "snoop0")
    lab.relay.set_up("snoop0", up=True)
    quick = ("mcast_query_interval", "100", "mcast_startup_query_interval", "100")
    peer.ip("link", "add", "ask0", "type", "bridge", "mcast_query_use_ifaddr", "1", *quick)
    peer.address("ask0", "10.8.0.9/24", "fd08::9/64")
    peer.ip("link", "set", "pport", "master", "ask0")
    peer.set_up("ask0", up=True)
    return peer


def queriers(lab: Lab, bridge: str) -> dict[tuple[str, str], mcr.Finding]:
    """What the doctor says, by severity and protocol, for a rule of each family on the bridge."""
    with lab.relay:
        findings = mcr.diagnose(
            f"239.1.71.1%{bridge}:5001 to 239.2.71.1%out0:6001",
            f"ff15::71:1%{bridge}:5001 to ff15::71:2%out0:6001",
        )
    found = [finding for finding in findings if finding.name == "querier"]
    return {(each.severity, "MLD" if "MLD" in each.text else "IGMP"): each for each in found}


MISSING = {("advice", "IGMP"), ("advice", "MLD")}
KNOWN = {("ok", "IGMP"), ("ok", "MLD")}


def test_another_host_that_asks_is_found(lab: Lab, peer: Namespace) -> None:
    """With its address, of each family."""
    assert queriers(lab, "snoop0").keys() == MISSING
    peer.ip("link", "set", "ask0", "type", "bridge", "mcast_querier", "1")
    wait_until(lambda: queriers(lab, "snoop0").keys() == KNOWN, 20)
    found = queriers(lab, "snoop0")
    assert found["ok", "IGMP"].text.startswith("10.8.0.9 asks for IGMP memberships")
    assert found["ok", "MLD"].text.startswith("fe80::")


def test_a_missing_querier_is_mended(lab: Lab) -> None:
    """The fix makes the bridge ask; a bridge that does not snoop needs none."""
    lab.relay.ip("link", "add", "snoop1", "type", "bridge", "mcast_snooping", "1")
    try:
        lab.relay.set_up("snoop1", up=True)
        found = queriers(lab, "snoop1")
        assert found.keys() == MISSING
        fix = found["advice", "IGMP"].fix
        assert fix == "ip link set snoop1 type bridge mcast_querier 1"
        lab.relay.run(*fix.split())
        assert queriers(lab, "snoop1").keys() == KNOWN
        lab.relay.ip("link", "set", "snoop1", "type", "bridge", "mcast_snooping", "0")
        assert queriers(lab, "snoop1") == {}
    finally:
        lab.relay.ip("link", "del", "snoop1")

"""What `mcr doctor` says about AF_XDP on fake hosts."""

import sys
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address

import mcr
from mcr import doctor
from mcr.doctor import Facts, Finding
from mcr.doctor.group_routes import parse_group_routes

from .test_doctor import ETH1, RULE, WELL, found

V6_RULE = "ff15::1%eth0:5001 to ff15::2%eth1:6001"
OBSTACLE = "eth1 has the queueing discipline tbf, which an XDP link would bypass"


def about_xdp(facts: Facts, *rules: str) -> list[Finding]:
    """The findings about AF_XDP."""
    findings = doctor.judge(facts, [mcr.Rule.parse(rule) for rule in rules])
    return [finding for finding in findings if finding.name == "xdp"]


def test_each_ip_version_of_an_interface_has_one_finding() -> None:
    """Several outputs on it share the finding."""
    other = RULE.replace("6001", "6002")
    facts = replace(WELL, xdp_obstacles={("eth1", 6): OBSTACLE})
    v4, v6 = about_xdp(facts, RULE, other, V6_RULE)
    assert (v4.severity, v4.interface) == ("ok", "eth1")
    assert v4.text == "copies to IPv4 groups on eth1 can leave through AF_XDP"
    assert (v6.severity, v6.interface) == ("advice", "eth1")
    assert v6.text.startswith("copies to IPv6 groups on eth1 leave through UDP sockets")
    assert v6.text.endswith(OBSTACLE)


def test_a_member_on_this_host_gets_its_copies_from_sockets() -> None:
    """Unless the output has no loop."""
    group = ip_address("239.2.0.1")
    member = replace(ETH1, groups=frozenset({group}))
    facts = replace(WELL, devices={**WELL.devices, "eth1": member})
    (finding,) = about_xdp(facts, RULE.replace("6001", "6002").replace("239.2.0.1", "239.2.0.2"))
    assert finding.severity == "ok"
    (finding,) = about_xdp(facts, RULE)
    assert finding.text.endswith("a program on this host receives 239.2.0.1 on eth1")
    (finding,) = about_xdp(facts, f"{RULE},loop=off")
    assert finding.severity == "ok"


def test_hosts_are_apart_from_groups_and_missing_rights_have_no_finding() -> None:
    """The finding about the ingress names the right."""
    host = "239.1.1.1%eth0:5001 to 10.0.1.9%eth1:6001"
    groups, hosts = about_xdp(WELL, RULE, host, host.replace("6001", "6002"))
    assert (groups.severity, hosts.severity) == ("ok", "ok")
    assert hosts.text == "copies to IPv4 hosts on eth1 can leave through AF_XDP"
    (finding,) = about_xdp(replace(WELL, xdp_obstacles={("eth1", 4): OBSTACLE}), host)
    assert (finding.severity, finding.interface) == ("advice", "eth1")
    by_route = replace(WELL, ways={ip_address("10.0.1.9"): "eth1"})
    (finding,) = about_xdp(by_route, host.replace("%eth1", ""))
    assert finding == hosts
    broadcast = replace(ETH1, broadcasts=(IPv4Address("10.0.1.255"),))
    facts = replace(WELL, devices={**WELL.devices, "eth1": broadcast})
    assert about_xdp(facts, host.replace("10.0.1.9", "10.0.1.255")) == []
    assert about_xdp(replace(WELL, packet_sockets=False), RULE) == []
    assert found(replace(WELL, xdp_obstacles={("eth0", 4): OBSTACLE}), RULE) == []


def about_routes(facts: Facts, *rules: str) -> list[Finding]:
    """The findings about routes for groups."""
    findings = doctor.judge(facts, [mcr.Rule.parse(rule) for rule in rules])
    return [finding for finding in findings if finding.name == "group-route"]


def test_sockets_want_a_route_for_the_groups_of_each_interface() -> None:
    """One finding an interface, with the command; none where frames or a route do without."""
    by_sockets = replace(WELL, xdp_obstacles={("eth1", 4): OBSTACLE}, group_routes={})
    other = RULE.replace("239.2.0.1", "239.2.0.2")
    (finding,) = about_routes(by_sockets, RULE, other)
    assert (finding.severity, finding.interface) == ("advice", "eth1")
    assert finding.text.startswith("eth1 has no route for IPv4 groups")
    assert finding.fix == f"ip route add 224.0.0.0/4 dev eth1 metric {1000 + ETH1.index}"
    assert len(about_routes(replace(WELL, packet_sockets=False, group_routes={}), RULE)) == 1
    one = {"eth1": (IPv4Network("239.2.0.1/32"),)}
    assert about_routes(replace(by_sockets, group_routes=one), RULE) == []
    assert len(about_routes(replace(by_sockets, group_routes=one), other)) == 1
    assert about_routes(replace(by_sockets, group_routes=None), RULE) == []
    assert about_routes(replace(WELL, group_routes={}), RULE) == []
    assert about_routes(by_sockets, V6_RULE, "239.1.1.1%eth0:5001 to 10.0.1.9%eth1:6001") == []


def test_the_routes_are_read_from_the_text_of_the_kernel() -> None:
    """Those of hosts and the default route lead groups too, but are not kept for them."""
    native = IPv4Network("224.0.0.0/4").network_address.packed
    word = f"{int.from_bytes(native, sys.byteorder):08X}"
    mask = f"{int.from_bytes(bytes([0xF0, 0, 0, 0]), sys.byteorder):08X}"
    lines = [
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
        "eth1\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
        f"eth1\t{word}\t00000000\t0001\t0\t0\t1002\t{mask}\t0\t0\t0",
    ]
    assert parse_group_routes(lines) == {"eth1": (IPv4Network("224.0.0.0/4"),)}

"""What `mcr doctor` says about AF_XDP on fake hosts."""

from dataclasses import replace
from ipaddress import ip_address

import mcr
from mcr import doctor
from mcr.doctor import Facts, Finding

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


def test_hosts_and_missing_rights_have_no_finding() -> None:
    """The finding about the ingress names the right."""
    assert about_xdp(WELL, "239.1.1.1%eth0:5001 to 10.0.1.9%eth1:6001") == []
    assert about_xdp(replace(WELL, packet_sockets=False), RULE) == []
    assert found(replace(WELL, xdp_obstacles={("eth0", 4): OBSTACLE}), RULE) == []

"""What `mcr doctor` says about the relay in the kernel on fake hosts."""

from dataclasses import replace

import pytest

import mcr
from mcr import doctor
from mcr.doctor import Finding
from mcr.doctor.offload_facts import OffloadFacts, XdpDevice

from .test_doctor import RULE, WELL

CAN = OffloadFacts(devices={"eth0": XdpDevice(), "eth1": XdpDevice()})


def about(offload: OffloadFacts | None, *rules: str) -> list[Finding]:
    """The findings about offload."""
    findings = doctor.judge(
        replace(WELL, offload=offload), [mcr.Rule.parse(rule) for rule in rules]
    )
    return [finding for finding in findings if finding.name == "offload"]


def with_input(**changed: object) -> OffloadFacts:
    """A host with another eth0."""
    return replace(CAN, devices={**CAN.devices, "eth0": XdpDevice(**changed)})  # type: ignore[arg-type]


def with_output(**changed: object) -> OffloadFacts:
    """A host with another eth1."""
    return replace(CAN, devices={**CAN.devices, "eth1": XdpDevice(**changed)})  # type: ignore[arg-type]


def test_a_host_where_the_kernel_can_relay() -> None:
    """One finding for each interface; none without facts."""
    first, second = about(CAN, RULE, RULE.replace("5001", "5002"))
    assert (first.severity, first.interface) == ("ok", "eth0")
    assert first.text == "the kernel can relay IPv4 datagrams that arrive at eth0 (--offload)"
    assert (second.severity, second.interface) == ("ok", "eth1")
    assert about(None, RULE) == about(CAN) == []


@pytest.mark.parametrize(
    ("offload", "text", "fix"),
    [
        (with_input(receiver_above="br0"), "br0 receives for it", None),
        (with_input(program=12), "an XDP program is attached", "bpftool prog show id 12"),
        (with_input(runs=False), "runs no XDP programs (native mode)", None),
        (with_input(runs=None), "runs no XDP programs (native mode)", None),
        (
            with_input(merging=("rx-lro", "rx-gro-hw")),
            "merges frames",
            "ethtool -K eth0 rx-lro off rx-gro-hw off",
        ),
        (
            replace(CAN, input_obstacles={("eth0", 4): ("filter", "a filter (tc) inspects")}),
            "eth0: a filter (tc) inspects",
            "tc filter show dev eth0 ingress",
        ),
        (with_output(sends=False), "sends no XDP frames; use another interface", None),
        (
            with_output(sends=False, veth=True),
            "the other end of the veth has GRO off",
            "ethtool -K PEER gro on",
        ),
        (
            with_output(sends=False, veth=True, peer="veth1"),
            "GRO off (veth1, in its network namespace)",
            "ethtool -K veth1 gro on",
        ),
        (
            replace(CAN, missing_rights=("CAP_PERFMON", "CAP_BPF")),
            "CAP_PERFMON and CAP_BPF are missing",
            'sudo "$(command -v mcr)" relay ...',
        ),
        (replace(CAN, has_types=False), "CONFIG_DEBUG_INFO_BTF", None),
    ],
)
def test_what_is_in_the_way_is_advice_with_its_fix(
    offload: OffloadFacts, text: str, fix: str | None
) -> None:
    """It says what the engine does instead."""
    (finding,) = (finding for finding in about(offload, RULE) if finding.severity != "ok")
    assert finding.severity == "advice"
    assert text in finding.text
    assert finding.fix == fix


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("10.0.0.1%eth0:5001 to 239.2.0.1%eth1:6001", "its input is no group"),
        (RULE.replace("5001", "5001-5002"), "a range of ports"),
        ("239.1.0.0/24%eth0:5001 to 239.2.0.1%eth1:6001", "a block of addresses"),
        (f"{RULE},priority=3", "an output has a priority"),
        (RULE.replace("239.2.0.1", "ff15::2"), "in the other address family"),
        (RULE.replace("5001", "5001,name=feed") + ",priority=3", "the engine relays feed:"),
    ],
)
def test_rules_that_only_the_engine_relays(rule: str, text: str) -> None:
    """Whatever the host can do."""
    (finding,) = (finding for finding in about(CAN, rule) if finding.severity != "ok")
    assert text in finding.text


def test_an_obstacle_of_one_ip_version() -> None:
    """It concerns no rule of the other."""
    offload = replace(CAN, input_obstacles={("eth0", 6): ("firewall", "a chain")})
    assert all(finding.severity == "ok" for finding in about(offload, RULE))


def test_what_was_left_off_is_found_without_rules() -> None:
    """With the command that turns it on."""
    (finding,) = about(replace(CAN, left_off=(("eth0", "rx-vlan-hw-parse"),)))
    assert finding.fix == "ethtool -K eth0 rx-vlan-hw-parse on"
    assert finding.interface == "eth0"

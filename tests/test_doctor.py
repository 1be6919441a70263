"""The findings of `mcr doctor` on fake hosts, and on this one without rights."""

import json
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

import mcr
from mcr import doctor
from mcr.cli import main
from mcr.doctor import Device, Facts, Finding

RULE = "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"
BLOCK = "239.1.0.0/24%eth0:5001 to 239.2.0.1%eth1:6001"
SOURCED = f"10.9.0.5@{RULE}"
SENDER = ip_address("10.9.0.5")
ETH0 = Device("eth0", 2, addresses=(ip_address("10.0.0.1"), ip_address("fe80::1")))
ETH1 = Device("eth1", 3, addresses=(ip_address("10.0.1.1"), ip_address("fe80::2")))
WELL = Facts({"eth0": ETH0, "eth1": ETH1}, ways={SENDER: "eth0"})
BARE = replace(ETH0, addresses=(ip_address("fe80::1"),))


def eth0(**changed: object) -> Facts:
    """A host with a changed eth0."""
    return replace(WELL, devices={"eth0": replace(ETH0, **changed), "eth1": ETH1})  # type: ignore[arg-type]


def found(facts: Facts, *rules: str, interfaces: tuple[str, ...] = ()) -> list[Finding]:
    """All findings that are not ok."""
    parsed = [mcr.Rule.parse(rule) for rule in rules]
    findings = doctor.judge(facts, parsed, interfaces)
    return [finding for finding in findings if finding.severity != "ok"]


@pytest.mark.parametrize("rule", [RULE, SOURCED, RULE.replace("239.1.1.1", "ff15::1")])
def test_a_host_without_problems_has_only_ok_findings(rule: str) -> None:
    """Each check is named."""
    assert found(WELL, rule) == []
    names = {finding.name for finding in doctor.judge(WELL, [mcr.Rule.parse(rule)])}
    assert {"ingress", "io_uring", "kernel", "link", "gro", "membership", "descriptors"} <= names


@pytest.mark.parametrize(
    ("facts", "rule", "name", "severity", "text", "fix"),
    [
        (replace(WELL, packet_sockets=False), RULE, "ingress", "advice", "CAP_NET_RAW", "sudo"),
        (
            replace(WELL, xdp_obstacles={("eth1", 4): "eth1 has the queueing discipline tbf"}),
            RULE,
            "xdp",
            "advice",
            "IPv4 groups on eth1 leave through UDP sockets",
            None,
        ),
        (replace(WELL, io_uring="refused"), RULE, "io_uring", "advice", "refused", None),
        (
            replace(WELL, io_uring="refused", sysctls={"kernel.io_uring_disabled": 2}),
            RULE,
            "io_uring",
            "advice",
            "refused",
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        (replace(WELL, missing_options=("UDP_GRO",)), RULE, "kernel", "advice", "no UDP_GRO", None),
        (
            replace(WELL, receive_buffer_bytes=212992),
            RULE,
            "receive-buffer",
            "advice",
            "208 KiB instead of 16384",
            "sysctl -w net.core.rmem_max=16777216",
        ),
        (
            replace(WELL, send_buffer_bytes=212992),
            RULE,
            "send-buffer",
            "advice",
            "208 KiB instead of 4096",
            "sysctl -w net.core.wmem_max=4194304",
        ),
        (
            replace(WELL, descriptors=60),
            RULE,
            "descriptors",
            "problem",
            "limit is 60",
            "ulimit -Hn",
        ),
        (eth0(up=False), RULE, "link", "problem", "eth0 is down", "ip link set eth0 up"),
        (eth0(carrier=False), RULE, "link", "problem", "no carrier", None),
        (eth0(multicast=False), RULE, "link", "problem", "multicast disabled", "multicast on"),
        (eth0(gro=False), RULE, "gro", "advice", "GRO is off", "ethtool -K eth0 gro on"),
        (eth0(mtu=9000), RULE, "mtu", "advice", "more than 1472 bytes", "eth1 mtu 9000"),
        (
            eth0(ipv6_disabled=True),
            RULE.replace("239.1.1.1", "ff15::1"),
            "ipv6",
            "problem",
            "IPv6 is disabled on eth0",
            "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0",
        ),
        (eth0(addresses=BARE.addresses), RULE, "address", "advice", "0.0.0.0", "ip address add"),
        (
            replace(WELL, refused_joins={("eth0", ip_address("239.1.1.1")): "no room"}),
            RULE,
            "membership",
            "problem",
            "239.1.1.1 cannot be joined on eth0: no room",
            None,
        ),
        (
            WELL,
            RULE.replace("eth0", "eth7"),
            "link",
            "problem",
            "no interface 'eth7'; did you mean",
            None,
        ),
        (
            replace(WELL, ways={ip_address("192.0.2.7"): None}),
            RULE.replace("239.2.0.1%eth1", "192.0.2.7"),
            "route",
            "problem",
            "there is no route to 192.0.2.7",
            "ip route add 192.0.2.7",
        ),
        (
            replace(eth0(up=False), ways={ip_address("10.0.0.9"): "eth0"}),
            RULE.replace("eth0", "eth1").replace("239.2.0.1%eth1", "10.0.0.9"),
            "link",
            "problem",
            "eth0 is down",
            "ip link set eth0 up",
        ),
        (eth0(gro=False), "10.0.0.1:5001 to 239.2.0.1%eth1:6001", "gro", "advice", "eth0", "eth0"),
        (WELL, f"{RULE},source=10.7.7.7", "rule", "problem", "10.7.7.7 is not an address", None),
        (WELL, RULE.replace("239.1", "232.1"), "rule", "advice", "is source-specific", None),
    ],
)
def test_each_problem_is_found_with_its_fix(
    facts: Facts, rule: str, name: str, severity: str, text: str, fix: str | None
) -> None:
    """One problem is one finding, with the command that helps."""
    (finding,) = found(facts, rule)
    assert (finding.name, finding.severity) == (name, severity)
    assert text in finding.text
    assert finding.fix == fix if fix is None else fix in str(finding.fix)


@pytest.mark.parametrize(
    ("rp_filter", "way", "rule", "text", "fix"),
    [
        (1, "eth1", SOURCED, "drops 10.9.0.5, which is reached by eth1", "eth0.rp_filter=2"),
        (1, None, SOURCED, "drops 10.9.0.5, which is without a route", "all.rp_filter=0"),
        (2, None, SOURCED, "drops 10.9.0.5, which is without a route", "all.rp_filter=0"),
        (1, None, RULE, "drops senders reached by another interface", "eth0.rp_filter=2"),
        (2, "eth1", SOURCED, None, None),
        (1, "eth0", SOURCED, None, None),
        (2, None, RULE, None, None),
        (0, None, SOURCED, None, None),
    ],
)
def test_the_reverse_path_filter_is_judged_by_the_sender(
    rp_filter: int, way: str | None, rule: str, text: str | None, fix: str | None
) -> None:
    """It matters for the ingress `udp` only, if the route to the sender differs."""
    facts = replace(eth0(rp_filter=rp_filter), ways={SENDER: way}, packet_sockets=False)
    findings = [each for each in found(facts, rule) if each.name == "reverse-path"]
    if text is None:
        assert findings == []
        return
    (finding,) = findings
    assert text in finding.text
    assert str(fix) in str(finding.fix)
    assert finding.severity == ("problem" if rule == SOURCED else "advice")
    (beside,) = found(replace(facts, packet_sockets=True), rule)
    assert beside.severity == "advice"
    assert beside.text.endswith("the ingress 'packet' receives them")


def test_the_reverse_path_filter_of_an_interface_without_address_drops_all() -> None:
    """The kernel has no route to compare with."""
    facts = replace(eth0(addresses=BARE.addresses, rp_filter=2), packet_sockets=False)
    (finding,) = (each for each in found(facts, RULE) if each.name == "reverse-path")
    assert "drops every sender" in finding.text


def test_the_reverse_path_filter_is_judged_for_blocks_too() -> None:
    """The same sockets receive a block of groups."""
    facts = replace(eth0(rp_filter=1), packet_sockets=False)
    block = "239.1.0.0/28%eth0:5001 to 239.2.0.1%eth1:6001"
    assert "reverse-path" in {finding.name for finding in found(facts, block)}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (f"{RULE},source=keep", "CAP_NET_ADMIN or CAP_NET_RAW is missing: source=keep on"),
        (f"{RULE},sport=keep", "CAP_NET_RAW is missing: sport=keep on 239.2.0.1%eth1:6001"),
        (f"{RULE},sport=900", "CAP_NET_BIND_SERVICE is missing: port 900 needs it"),
        (RULE.replace("5001", "319-400"), "CAP_NET_BIND_SERVICE is missing: port 319 needs it"),
    ],
)
def test_rights_that_a_rule_needs_are_named(rule: str, text: str) -> None:
    """Those that a relay would be refused for; with the rights there is no finding."""
    bare = replace(WELL, packet_sockets=False, foreign_sources=False, lowest_port=1024)
    (finding,) = (finding for finding in found(bare, rule) if finding.name == "rights")
    assert finding.severity == "problem"
    assert finding.text.startswith(text)
    assert finding.fix
    assert "rights" not in {finding.name for finding in found(WELL, rule)}


def test_a_mistyped_interface_has_a_suggestion() -> None:
    """As the relay's own message has."""
    (finding,) = found(WELL, interfaces=("eht0",))
    assert (
        finding.text
        == "there is no interface 'eht0'; did you mean 'eth0'? this host has eth0, eth1"
    )


def test_alternative_names_are_suggested() -> None:
    """They are as good as the interface's own."""
    facts = eth0(altnames=("camera-net-left",))
    (finding,) = (each for each in found(facts, RULE.replace("eth0", "camera-net-lef")))
    assert finding.text == (
        "there is no interface 'camera-net-lef'; did you mean 'camera-net-left'? this host has"
        " eth0, camera-net-left, eth1"
    )


def test_a_long_source_list_is_too_long_for_one_socket_only() -> None:
    """The ingress `packet` joins by as many sockets as it takes."""
    sources = "+".join(f"10.9.0.{number}" for number in range(1, 13))
    facts = replace(WELL, sysctls={"net.ipv4.igmp_max_msf": 10})
    assert found(facts, f"{sources}@{RULE}") == []
    _, finding = found(replace(facts, packet_sockets=False), f"{sources}@{RULE}")
    assert finding.fix == "sysctl -w net.ipv4.igmp_max_msf=12"


def test_a_limit_that_cannot_be_read() -> None:
    """As of IPv6 sources in a container: the fix names the host."""
    sources = "+".join(f"2001:db8::{number}" for number in range(1, 8))
    rule = f"{sources}@{RULE.replace('239.1.1.1', 'ff15::1')}"
    facts = replace(WELL, packet_sockets=False, tried_limits={"net.ipv6.mld_max_msf": 5})
    (finding,) = (each for each in found(facts, rule) if each.name == "sources")
    assert (finding.severity, finding.fix) == ("problem", "sysctl -w net.ipv6.mld_max_msf=7")
    assert "lists 7 sources, but a socket joins at most 5; " in finding.text
    assert finding.text.endswith("root has to raise it on the host, outside of containers")
    enough = replace(facts, tried_limits={"net.ipv6.mld_max_msf": 7})
    assert "sources" not in {each.name for each in found(enough, rule)}
    readable = replace(facts, sysctls={"net.ipv6.mld_max_msf": 6})
    (finding,) = (each for each in found(readable, rule) if each.name == "sources")
    assert finding.text == "a rule lists 7 sources, but a socket joins at most 6"


def test_a_vlan_s_interface_is_written_as_sysctl_reads_it() -> None:
    """A dot in the name would be read as a separator."""
    device = replace(ETH0, name="eth0.7", rp_filter=1)
    facts = replace(WELL, devices={"eth0.7": device, "eth1": ETH1})
    (finding,) = found(facts, RULE.replace("eth0", "eth0.7"))
    assert finding.fix == "sysctl -w net.ipv4.conf.eth0/7.rp_filter=2"


def test_interfaces_are_checked_without_rules() -> None:
    """Those that are named, else all that are up."""
    facts = replace(eth0(gro=False), ways={})
    assert [each.interface for each in found(facts)] == ["eth0"]
    assert found(facts, interfaces=("eth1",)) == []
    assert found(eth0(up=False)) == []
    assert [each.text for each in found(eth0(up=False), interfaces=("eth0",))] == ["eth0 is down"]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command on a fake host with GRO off on eth0, which it may turn on."""
    switched: list[str] = []
    monkeypatch.setattr(
        "mcr.doctor.read_facts", lambda rules: WELL if switched else eth0(gro=False)
    )
    monkeypatch.setattr("mcr._native.switch_gro_on", switched.append)
    return switched


def test_nothing_is_changed_without_fix(
    host: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Advice alone is not a failure."""
    assert main(["doctor", *RULE.split()]) == 0
    out = capsys.readouterr().out
    assert "advice   gro: GRO is off on eth0" in out
    assert "         ethtool -K eth0 gro on\n" in out
    assert host == []


def test_a_fix_is_made_reported_and_verified(
    host: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The report has the command that undoes it."""
    assert main(["doctor", RULE, "--fix", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert host == ["eth0"]
    assert said["fixed"] == ["turned GRO on for eth0; 'ethtool -K eth0 gro off' undoes it"]
    assert all(finding["severity"] == "ok" for finding in said["findings"])


def test_a_fix_that_is_refused_is_a_failure(
    host: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The missing right is named, and the findings are printed."""

    def refuse(interface: str) -> None:
        raise mcr.RightsError("CAP_NET_ADMIN is missing")

    monkeypatch.setattr("mcr._native.switch_gro_on", refuse)
    assert main(["doctor", RULE, "--fix"]) == 1
    out, err = capsys.readouterr()
    assert err == "mcr: CAP_NET_ADMIN is missing\n"
    assert "GRO is off" in out


def test_wrong_rule_text_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """As for every command."""
    assert main(["doctor", "nonsense to"]) == 2
    assert capsys.readouterr().err.startswith("mcr: rule 1")


def test_a_daemon_that_does_not_answer_is_a_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If its socket was named, also by the environment; this host is checked all the same."""
    path = tmp_path / "mcr.sock"
    expected = f"problem  daemon: no daemon listens at {path}; start one with mcr serve"
    monkeypatch.setenv("MCR_SOCKET", str(path))
    for arguments in ([], [RULE], ["--socket", str(path)]):
        assert main(["doctor", *arguments]) == 1
        out = capsys.readouterr().out.splitlines()
        assert expected in out
        assert len(out) > 5
    assert main(["doctor", "feed-a"]) == 1
    assert capsys.readouterr().out == ""


def test_this_host() -> None:
    """With the rights of the test run."""
    code = "import mcr; print(*{finding.name for finding in mcr.diagnose(interfaces=['lo'])})"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert {"ingress", "io_uring", "kernel", "link"} <= set(run.stdout.split())


@pytest.mark.parametrize(("state", "word"), [(True, "is on"), (False, "is off"), (None, None)])
def test_gro_forwarding_is_information(state: bool | None, word: str | None) -> None:
    """It merges only datagrams without a socket, and mcr's streams have sockets."""
    findings = doctor.judge(eth0(gro_forwarding=state), [mcr.Rule.parse(RULE)])
    texts = [each.text for each in findings if each.name == "gro-forwarding"]
    assert [word in text for text in texts if word] == ([True] if word else [])
    assert found(eth0(gro_forwarding=state), RULE) == []


def test_blocks_are_checked_like_groups() -> None:
    """The reverse-path filter drops datagrams for them too."""
    rule = f"10.9.0.5@{BLOCK}"
    facts = replace(eth0(rp_filter=1), ways={SENDER: "eth1"}, packet_sockets=False)
    (finding,) = (each for each in found(facts, rule) if each.name == "reverse-path")
    assert "drops 10.9.0.5, which is reached by eth1" in finding.text
    facts = replace(eth0(addresses=BARE.addresses, rp_filter=2), packet_sockets=False)
    assert "drops every sender" in str(found(facts, BLOCK))


def test_a_block_that_is_not_joined_has_no_membership_finding() -> None:
    """Since no group of it is joined."""
    rule = BLOCK.replace("/24", "/16")
    findings = list(doctor.judge(WELL, [mcr.Rule.parse(rule)]))
    assert {"membership", "memberships"}.isdisjoint(finding.name for finding in findings)
    names = {finding.name for finding in doctor.judge(WELL, [mcr.Rule.parse(BLOCK)])}
    assert {"membership", "memberships"} <= names


@pytest.mark.parametrize(
    ("packet_sockets", "rule", "inputs"),
    [
        (True, RULE, 2),
        (True, BLOCK, 1 + 13),
        (True, BLOCK.replace("/24", "/16"), 1),
        (True, "10.0.0.1:5000-5099 to 239.2.0.1%eth1:6001", 100),
        (False, RULE, 1),
        (False, BLOCK.replace("5001", "5001-5002"), 512),
    ],
)
def test_descriptors_are_counted_for_each_group_and_port(
    packet_sockets: bool, rule: str, inputs: int
) -> None:
    """In addition to those of outputs and of the process."""
    facts = replace(WELL, packet_sockets=packet_sockets)
    findings = doctor.judge(facts, [mcr.Rule.parse(rule)])
    (said,) = (finding.text for finding in findings if finding.name == "descriptors")
    assert said.startswith(f"about {inputs + 1 + 64} descriptors are needed")


def test_the_cards_below_an_interface_are_checked_instead() -> None:
    """A card in another namespace is a finding that --fix cannot repair."""
    below = {"p0": Device("p0", 4), "p1": Device("p1", 5, gro=False)}
    facts = eth0(gro=False, cards=("p0", "p1"))
    facts = replace(facts, devices={**facts.devices, **below})
    (gro,) = found(facts, RULE)
    assert (gro.interface, gro.fix) == ("p1", "ethtool -K p1 gro on")
    assert gro.text.startswith("GRO is off on p1, which receives for eth0, ")
    (elsewhere,) = found(eth0(gro=False, card_elsewhere=True), RULE)
    assert (elsewhere.name, elsewhere.fix) == ("gro-below", None)
    assert doctor.repair(elsewhere) is None


def test_gro_is_not_advised_on_a_card_for_udp() -> None:
    """There `udp` requests no merging."""
    bare = replace(eth0(gro=False, gro_forwarding=False), packet_sockets=False)
    assert not [each for each in doctor.judge(bare, [mcr.Rule.parse(RULE)]) if "gro" in each.name]
    below = {"p0": Device("p0", 4, gro=False)}
    above = replace(eth0(cards=("p0",)), packet_sockets=False)
    above = replace(above, devices={**above.devices, **below})
    assert "GRO is off on p0, which receives for eth0" in str(found(above, RULE))


@pytest.mark.parametrize(("packet", "severity"), [(True, "advice"), (False, "problem")])
def test_an_input_that_belongs_to_a_bridge(packet: bool, severity: str) -> None:
    """The finding names the bridge; an output may be a port."""
    facts = replace(eth0(receiving_master="br0"), packet_sockets=packet)
    (port,) = (each for each in found(facts, RULE) if each.name == "port")
    assert (port.severity, port.interface) == (severity, "eth0")
    assert port.text.endswith("name br0 as the input")
    turned = "239.2.0.1%eth1:6001 to 239.1.1.1%eth0:5001"
    assert "port" not in {each.name for each in found(facts, turned)}

"""`mcr doctor` on hosts where something is wrong: it finds each thing, and mends what it may."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.support.deadline import wait_until
from tests.support.own_command import mcr_here

import mcr
from mcr.doctor.facts import sysctl

from .checks import PROCESS_S
from .daemons import serving
from .lab import Lab
from .namespaces import Namespace
from .offloads import is_on
from .relays import relaying
from .test_command import MCR, NO_CAPABILITIES
from .test_memberships import joins
from .test_refusals import no_more_joins

DEFAULT_SOURCES_V6 = 64  # where these tests run in a container themselves
RULE = "239.1.70.1%in0:5001 to 239.2.70.1%out0:6001"


def look(namespace: Namespace, *rules: str) -> dict[str, mcr.Finding]:
    """What is not well, by name."""
    with namespace:
        findings = mcr.diagnose(*rules)
    return {finding.name: finding for finding in findings if finding.severity != "ok"}


def command(
    lab: Lab, *arguments: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `mcr doctor` inside the relay namespace; in this process, unless with other rights."""
    if not before:
        with lab.relay:
            return subprocess.CompletedProcess(arguments, *mcr_here("doctor", *arguments))
    return subprocess.run(
        lab.relay.command(*before, MCR, "doctor", *arguments),
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )


@contextmanager
def set_to(namespace: Namespace, sysctl: str, value: int) -> Iterator[None]:
    """Keep a sysctl at a value that the lab otherwise has at 0."""
    namespace.sysctl(sysctl, value)
    try:
        yield
    finally:
        namespace.sysctl(sysctl, 0)


def test_nothing_is_wrong(lab: Lab) -> None:
    """With GRO on there is nothing to say, and nothing stays behind."""
    lab.set_offload(on=True)
    before = joins(lab.relay)
    six = "ff15::70:1%in0:5001 to ff15::70:2%out0:6001"
    assert look(lab.relay, RULE, six) == {}
    assert joins(lab.relay) == before


def test_gro_is_found_and_mended(lab: Lab) -> None:
    """`--fix` switches it on and says how to take that back; unasked nothing changes."""
    lab.set_offload(on=False)
    assert look(lab.relay, RULE)["gro"].fix == "ethtool -K in0 gro on"
    told = command(lab, RULE)
    assert (told.returncode, told.stderr) == (0, "")
    assert "advice   gro: GRO is off on in0" in told.stdout
    assert "gro" in look(lab.relay, RULE)
    mended = command(lab, RULE, "--fix", "--json")
    assert mended.returncode == 0
    assert json.loads(mended.stdout)["fixed"] == [
        "turned GRO on for in0; 'ethtool -K in0 gro off' undoes it"
    ]
    assert look(lab.relay, RULE) == {}
    with lab.relay:
        assert is_on("in0", "rx-gro")
    lab.set_offload(on=False)


def test_gro_needs_a_right(lab: Lab) -> None:
    """Without it all else is looked at, the right is named, and the code is 1."""
    lab.set_offload(on=False)
    told = command(lab, RULE, "--fix", before=("setpriv", "--bounding-set=-net_admin"))
    assert told.returncode == 1
    assert told.stderr.startswith("mcr: CAP_NET_ADMIN is missing")
    assert "ok       ingress: CAP_NET_RAW is available" in told.stdout
    assert "advice   gro" in told.stdout


def test_gro_of_a_card_is_nothing_to_the_ingress_udp(lab: Lab) -> None:
    """Without rights it is what a relay takes: `--fix` leaves the card as it is."""
    lab.set_offload(on=False)
    told = command(lab, RULE, "--fix", before=NO_CAPABILITIES)
    assert (told.returncode, told.stderr) == (0, "")
    assert "advice   ingress: CAP_NET_RAW is missing" in told.stdout
    assert "gro:" not in told.stdout


def test_a_route_for_groups_is_advised_where_sockets_send(lab: Lab) -> None:
    """The command is shown until there is such a route, and does what it says."""
    wanted = "ip route add 224.0.0.0/4 dev out0 metric "
    told = command(lab, RULE, before=NO_CAPABILITIES).stdout
    (line,) = (line.strip() for line in told.splitlines() if wanted in line)
    assert "advice   group-route: out0 has no route for IPv4 groups" in told
    lab.relay.run(*line.split())
    try:
        assert wanted not in command(lab, RULE, before=NO_CAPABILITIES).stdout
    finally:
        lab.relay.ip("route", "del", "224.0.0.0/4", "dev", "out0")


def offload(namespace: Namespace, rule: str = RULE) -> list[mcr.Finding]:
    """What keeps the kernel from relaying the rule."""
    with namespace:
        findings = mcr.diagnose(rule)
    return [each for each in findings if each.name == "offload" and each.severity != "ok"]


def test_what_keeps_the_kernel_from_relaying(lab: Lab) -> None:
    """Each thing in its turn, with the command that shows it or helps."""
    lab.set_offload(on=True)
    assert offload(lab.relay) == []
    with lab.relay.promiscuous("in0"):
        (finding,) = offload(lab.relay)
        assert "in0 is promiscuous" in finding.text
        assert finding.fix == "ip -d link show in0"
    lab.relay.run("nft", "add table netdev looks")
    try:
        hook = "{ type filter hook ingress device in0 priority 0; policy drop; }"
        lab.relay.run("nft", f"add chain netdev looks in {hook}")
        (finding,) = offload(lab.relay)
        assert 'chain "looks in"' in finding.text
        assert finding.fix == "nft list hooks"
    finally:
        lab.relay.run("nft", "delete table netdev looks")
    lab.receiver.offload("d0", gro=False)
    (finding,) = offload(lab.relay)
    assert finding.interface == "out0"
    assert "the other end of the veth has GRO off" in finding.text
    lab.receiver.offload("d0", gro=True)
    lab.relay.ip("link", "add", "mv7", "link", "in0", "type", "macvlan", "mode", "bridge")
    try:
        lab.relay.set_up("mv7", up=True)
        (finding,) = offload(lab.relay)
        assert "mv7 receives for it" in finding.text
        (finding,) = offload(lab.relay, RULE.replace("in0", "mv7"))
        assert "its driver runs no XDP programs (native mode)" in finding.text
    finally:
        lab.relay.ip("link", "del", "mv7")
    told = command(lab, RULE, before=("setpriv", "--bounding-set=-bpf"))
    assert "the kernel cannot relay (--offload): CAP_BPF is missing" in told.stdout


def test_who_relays_the_rules_of_a_daemon(lab: Lab) -> None:
    """With the reason; and an XDP program that is attached is seen."""
    lab.set_offload(on=True)
    host = "10.1.0.1%in0:5001,name=host to 239.2.70.2%out0:6001"
    with serving(lab.relay, "--offload", "auto") as daemon, daemon.client() as client:
        client.add_rules([f"239.1.70.1%in0:5001,name=one to {RULE.split(' to ')[1]}", host])
        wait_until(lambda: [rule.offload for rule in client.rules().rules] == ["kernel", "engine"])
        told = command(lab, "--socket", str(daemon.socket), RULE)
        assert "ok       offload: the kernel relays one" in told.stdout
        text = "the engine relays host, not the kernel: the input is not a group"
        assert f"advice   offload: {text}" in told.stdout
        assert "an XDP program is attached" in told.stdout


def test_what_a_running_daemon_says_of_its_rules(lab: Lab) -> None:
    """By name or all of them: without traffic, a link that goes down, two senders on one group."""
    lab.set_offload(on=True)
    rules = (RULE.replace(":5001", ":5001,name=one"), RULE.replace(":5001", ":5002,name=two"))
    with serving(lab.relay, "--flows") as daemon, daemon.client() as client:
        client.add_rules(rules)
        socket = ("--socket", str(daemon.socket))
        told = command(lab, "one", *socket)
        assert (told.returncode, told.stderr) == (0, "")
        assert "advice   traffic: rule one: joined, no frame seen on in0" in told.stdout
        assert "rule two" not in told.stdout
        assert "membership: this host is a member of 239.1.70.1 on in0" in told.stdout
        with (
            lab.sender("239.1.70.1", 5001, source=("10.1.0.2", 4001)) as first,
            lab.sender("239.1.70.1", 5001, source=("10.1.0.3", 4002)) as second,
        ):

            def both_send() -> bool:
                first.send([bytes(100)])
                second.send([bytes(100)])
                rates = [flow.rate_1s for flow in client.flows().flows]
                return len([rate for rate in rates if rate and rate.pps]) == 2

            wait_until(both_send)
            with ThreadPoolExecutor(1) as aside:
                ended = aside.submit(command, lab, "o*", *socket)
                wait_until(lambda: both_send() and ended.done(), PROCESS_S)
                told = ended.result()
        assert "advice   senders: 2 senders send to 239.1.70.1 port 5001" in told.stdout
        assert "traffic" not in told.stdout
        with lab.relay.down("out0"):
            wait_until(lambda: any(output.parked for output in client.rule("one").outputs))
            told = command(lab, *socket)
        assert told.returncode == 1
        assert (
            "problem  output: output 1 of rule one (239.2.70.1%out0:6001) is parked" in told.stdout
        )
        told = command(lab, "nosuch", *socket)
        assert told.returncode == 2
        assert told.stderr == "mcr: there is no rule with the id or name 'nosuch'\n"


def test_links_that_are_down_or_unplugged(lab: Lab) -> None:
    """The interface that is down, and the one at the other end of it."""
    with lab.receiver.down("d0"):
        finding = look(lab.relay, RULE)["link"]
        assert finding.text == "out0 has no carrier: is the cable plugged in?"
    with lab.relay.down("in0"):
        told = command(lab, RULE, "--json")
        assert told.returncode == 1
        findings = json.loads(told.stdout)["findings"]
        (down,) = (each for each in findings if each["severity"] == "problem")
        assert down["text"] == "in0 is down"
        assert down["fix"] == "ip link set in0 up"


@pytest.mark.parametrize(
    ("group", "network", "limit"),
    [
        ("239.1.70.1", "10.1.0.", "net.ipv4.igmp_max_msf"),
        ("ff15::70:1", "fd01::", "net.ipv6.mld_max_msf"),
    ],
    ids=["v4", "v6"],
)
def test_long_source_lists(lab: Lab, group: str, network: str, limit: str) -> None:
    """Also where the sysctl cannot be read, which IPv6 has in the first namespace alone."""
    most = sysctl(limit) or DEFAULT_SOURCES_V6
    if limit.startswith("net.ipv4"):
        lab.relay.sysctl(limit, most)

    def sources(count: int) -> list[dict[str, str]]:
        listed = "+".join(f"{network}{number}" for number in range(100, 100 + count))
        rule = RULE.replace("239.1.70.1", f"{listed}@{group}")
        told = command(lab, rule, "--json", before=NO_CAPABILITIES)
        findings = json.loads(told.stdout)["findings"]
        return [each for each in findings if each["name"] == "sources"]

    assert sources(most) == []
    (problem,) = sources(most + 1)
    assert problem["fix"] == f"sysctl -w {limit}={most + 1}"
    assert f"a socket joins at most {most}" in problem["text"]
    assert ("outside of containers" in problem["text"]) == limit.startswith("net.ipv6")


def test_addresses_and_mtu(lab: Lab) -> None:
    """An input without an address, and an output narrower than its input."""
    assert look(lab.relay, RULE.replace("in0", "bare"))["address"].interface == "bare"
    mtu = look(lab.relay, RULE.replace("in0", "big").replace("239.2.70.1%out0", "10.2.0.2"))["mtu"]
    assert mtu.fix == "ip link set out0 mtu 9000"


@pytest.mark.parametrize("which", ["all", "in0"])
def test_the_reverse_path_filter(lab: Lab, which: str) -> None:
    """It drops a sender that another interface leads to, and the doctor says so before."""
    rule = f"10.4.0.2@{RULE}"
    with set_to(lab.relay, f"net.ipv4.conf.{which}.rp_filter", 1):
        finding = look(lab.relay, rule)["reverse-path"]
        assert "drops 10.4.0.2, which is reached by big" in finding.text
        told = command(lab, rule, "--json", before=NO_CAPABILITIES)
        assert told.returncode == 1
        assert "reverse-path" not in look(lab.relay, f"10.1.0.2@{RULE}")
        with (
            lab.receive("239.2.70.1", 6001) as receiver,
            relaying(lab.relay, rule, f"10.1.0.2@{RULE},ttl=2", ingress="udp"),
            lab.sender("239.1.70.1", 5001, source=("10.4.0.2", 0)) as strayed,
            lab.sender("239.1.70.1", 5001, source=("10.1.0.2", 0)) as straight,
        ):
            strayed.send([b"strayed"])
            straight.send([b"straight"])
            receiver.expect([b"straight"])
            assert finding.fix is not None
            lab.relay.run(*finding.fix.split())
            strayed.send([b"strayed"])
            receiver.expect([b"straight", b"strayed"])
    lab.relay.sysctl("net.ipv4.conf.in0.rp_filter", 0)


def test_memberships(lab: Lab) -> None:
    """A group that cannot be joined is a problem; one that a relay has joined is seen."""
    with no_more_joins(lab):
        finding = look(lab.relay, RULE)["membership"]
        assert finding.text.startswith("239.1.70.1 cannot be joined on in0: ")
    with relaying(lab.relay, RULE), no_more_joins(lab):
        assert "membership" not in look(lab.relay, RULE)


def test_ipv6_that_is_disabled(lab: Lab) -> None:
    """A rule of the other family receives them."""
    rule = "ff15::70:1%bare:5001 to 239.2.70.1%out0:6001"
    with set_to(lab.relay, "net.ipv6.conf.bare.disable_ipv6", 1):
        fix = look(lab.relay, rule)["ipv6"].fix
        assert fix == "sysctl -w net.ipv6.conf.bare.disable_ipv6=0"
        assert "ipv6" not in look(lab.relay, RULE.replace("in0", "bare"))

"""A daemon whose rules the kernel relays, and the processes that it loses meanwhile."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.own_command import mcr_here
from tests.support.processes import is_running

import mcr

from .checks import PROCESS_S, settle_sent
from .daemons import MCR, Daemon, serving
from .deaths import kill, lost, stopped
from .lab import Lab
from .offloads import is_on
from .traffic import PacedFlow, payloads

RATE_PPS = 2000
ONE = "239.1.97.1%in0:5001,name=one to 239.2.97.1%out0:6001 239.2.97.2%out1:6002"
TWO = "239.1.97.2%in0:5001,name=two to 239.2.97.3%out0:6003"
HOST = "10.1.0.1%in0:5004,name=host to 239.2.97.4%out0:6004"  # no group: only the engine can
LIMITED = ("setpriv", "--bounding-set=-bpf,-perfmon")
FEATURES = ["rx-vlan-hw-parse", "rx-gro", "tx-udp-segmentation", "tx-tcp-segmentation"]


@pytest.fixture(autouse=True)
def _single(lab: Lab) -> None:
    """Datagrams as a wire delivers them: each in a frame, with a checksum."""
    lab.set_offload(on=False)
    for namespace, near in ((lab.source, "s0"), (lab.source, "s1")):
        namespace.offload(near, tx_checksum_ip_generic=False)


@contextlib.contextmanager
def offloading(lab: Lab, *rules: str, mode: str = "require") -> Iterator[tuple[Daemon, mcr.Client]]:
    """A daemon with these rules, all of which the kernel relays."""
    with serving(lab.relay, "--offload", mode) as daemon, daemon.client() as client:
        client.replace_rules(list(rules))
        in_kernel(client, len(rules))
        yield daemon, client


def in_kernel(client: mcr.Client, count: int) -> None:
    """Wait until the kernel relays this many rules."""
    wait_until(lambda: [rule.offload for rule in client.stats().rules].count("kernel") == count)


def is_attached(lab: Lab, interface: str = "in0") -> bool:
    """Whether an XDP program is attached."""
    return "xdp" in lab.relay.ip("link", "show", "dev", interface)


def settings(lab: Lab) -> list[bool]:
    """What attaching may change: of the inputs, of their other ends, and of outputs' ones."""
    places = [(lab.relay, "in0"), (lab.source, "s0"), (lab.relay, "out0"), (lab.receiver, "d0")]
    found = []
    for namespace, interface in places:
        with namespace:
            found += [is_on(interface, feature) for feature in FEATURES]
    return found


def frames_taken(lab: Lab) -> int:
    """The UDP datagrams that the network stack of the relay's host has received."""
    lines = [line.split() for line in lab.relay.proc_net("snmp").splitlines()]
    names, values = (line for line in lines if line[0] == "Ip:")
    return int(values[names.index("InReceives")])


def test_the_kernel_relays_and_is_counted(lab: Lab) -> None:
    """Both outputs get every datagram in order; the worker and the stack get none."""
    sent = payloads(3000, (60, 400, 1400))
    with (
        offloading(lab, ONE, TWO) as (_, client),
        lab.receive("239.2.97.1", 6001) as first,
        lab.receive("239.2.97.2", 6002, "d1") as second,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        before = frames_taken(lab)
        sender.send(sent)
        first.expect(sent)
        second.expect(sent)
        stats = settle_sent(client, 3000, 3000, 0)
        assert frames_taken(lab) - before < 100, "the network stack got what the kernel relays"
        one, two = stats.rules
        assert (one.matched, two.matched) == (3000, 0)
        assert one.matched_bytes == sum(map(len, sent)) == one.outputs[0].sent_bytes
        assert [(rule.offload, rule.offload_reason) for rule in stats.rules] == [
            ("kernel", None)
        ] * 2
        (interface,) = stats.interfaces
        assert (interface.received, interface.matched) == (3000, 3000)


def test_a_killed_worker_interrupts_nothing(lab: Lab) -> None:
    """Twice, under traffic: the kernel relays meanwhile, and the successors count it all."""
    with (
        offloading(lab, ONE, TWO) as (daemon, client),
        lab.receive("239.2.97.1", 6001) as first,
        lab.receive("239.2.97.2", 6002, "d1") as second,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        with PacedFlow(sender, RATE_PPS) as flow:
            for deaths in (1, 2):
                flow.advance(RATE_PPS // 4)
                (worker,) = daemon.workers
                kill(worker)
                assert is_attached(lab)
                flow.advance(RATE_PPS // 4)
                wait_until(lambda: daemon.workers not in ([], [worker]), PROCESS_S)  # noqa: B023
                in_kernel(client, 2)
                assert client.workers()[0].deaths == deaths
                flow.advance(RATE_PPS // 4)
                client.stats()
        sent = flow.sent
        first.wait_for(len(sent))
        second.wait_for(len(sent))
        assert (lost(sent, first), lost(sent, second)) == (0, 0)
        stats = settle_sent(client, len(sent), len(sent), 0)
        assert [rule.matched for rule in stats.rules] == [len(sent), 0]
        (interface,) = stats.interfaces
        assert interface.matched == len(sent)


def test_a_worker_that_hangs_interrupts_nothing(lab: Lab) -> None:
    """It is stopped, then killed for its silence."""
    with (
        offloading(lab, ONE) as (daemon, client),
        lab.receive("239.2.97.1", 6001) as receiver,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        (worker,) = daemon.workers
        with PacedFlow(sender, RATE_PPS) as flow, stopped(worker):
            wait_until(lambda: not is_running(worker), PROCESS_S)
            in_kernel(client, 1)
        receiver.wait_for(len(flow.sent))
        assert lost(flow.sent, receiver) == 0
        settle_sent(client, len(flow.sent), len(flow.sent))


def test_rules_change_around_one_that_is_relayed(lab: Lab) -> None:
    """Others come, go and are disabled; and the dead worker's successor has the rules of then."""
    with (
        offloading(lab, ONE) as (daemon, client),
        lab.receive("239.2.97.1", 6001) as receiver,
        lab.receive("239.2.97.3", 6003) as other,
        lab.sender("239.1.97.1", 5001) as sender,
        lab.sender("239.1.97.2", 5001) as second,
    ):
        with PacedFlow(sender, RATE_PPS) as flow:
            for _ in range(5):
                client.add_rules([TWO])
                in_kernel(client, 2)
                second.send(payloads(20))
                other.expect(payloads(20))
                other.forget()
                client.disable_rule("two")
                in_kernel(client, 1)
                second.send(payloads(20))
                client.remove_rules(["two"])
            kill(*daemon.workers)
            client.add_rules([TWO])
            in_kernel(client, 2)
            second.send(payloads(30))
            other.expect(payloads(30))
        receiver.wait_for(len(flow.sent))
        assert lost(flow.sent, receiver) == 0
        settle_sent(client, len(flow.sent), len(flow.sent), 30)
        assert is_attached(lab)
        client.replace_rules([])
        wait_until(lambda: not is_attached(lab))


def test_a_killed_control_interrupts_nothing(lab: Lab) -> None:
    """Its successor shows the same counters, and who relays each rule."""
    with (
        offloading(lab, ONE) as (daemon, client),
        lab.receive("239.2.97.1", 6001) as receiver,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        workers = daemon.workers
        with PacedFlow(sender, RATE_PPS) as flow:
            flow.advance(RATE_PPS // 4)
            kill(daemon.control)
            in_kernel(client, 1)
            flow.advance(RATE_PPS // 4)
        receiver.wait_for(len(flow.sent))
        assert lost(flow.sent, receiver) == 0
        settle_sent(client, len(flow.sent), len(flow.sent))
        assert daemon.workers == workers


def test_a_rule_that_the_kernel_cannot_relay(lab: Lab) -> None:
    """`require` refuses it with its reason; `auto` leaves it to the engine."""
    with (
        offloading(lab, ONE) as (_, client),
        pytest.raises(mcr.McrError, match="cannot be relayed in the kernel: the input is no"),
    ):
        client.add_rules([HOST])
    with (
        serving(lab.relay, "--offload", "auto") as daemon,
        daemon.client() as client,
        lab.receive("239.2.97.4", 6004) as receiver,
        lab.sender("10.1.0.1", 5004) as sender,
    ):
        client.add_rules([ONE, HOST])
        in_kernel(client, 1)
        ways = {rule.name: rule for rule in client.rules()}
        assert (ways["one"].offload, ways["one"].offload_reason) == ("kernel", None)
        assert (ways["host"].offload, ways["host"].offload_reason) == ("engine", "not_group")
        detail = "the input is not a group"
        wait_until(lambda: client.rules(["host"]).rules[0].offload_detail == detail)
        listed = mcr_here("rule", "list", "--socket", daemon.socket).out
        assert f"host is not relayed by the kernel: {detail}" in listed
        assert "one is not relayed" not in listed
        sender.send(payloads(50))
        receiver.expect(payloads(50))
        settle_sent(client, 0, 0, 50)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_attached(lab: Lab, how: signal.Signals) -> None:
    """The end detaches what this daemon has attached, and nothing of another one."""
    other = "239.1.97.9%big:5001 to 239.2.97.9%out0:6009"
    before = settings(lab)
    with (
        serving(lab.relay, "--offload", "require") as neighbour,
        neighbour.client() as beside,
        lab.receive("239.2.97.9", 6009) as receiver,
        lab.sender("239.1.97.9", 5001, interface="s1") as sender,
    ):
        beside.add_rules([other])
        in_kernel(beside, 1)
        with offloading(lab, ONE) as (daemon, client):
            client.close()
            everybody = daemon.processes
            assert is_attached(lab)
            daemon.process.send_signal(how)
            code = daemon.process.wait(PROCESS_S)
            assert code == (0 if how == signal.SIGTERM else -how)
            wait_until(lambda: not any(is_running(pid) for pid in everybody), 1.0)
            wait_until(lambda: not is_attached(lab), 1.0)
        assert is_attached(lab, "big")
        sender.send(payloads(50))
        receiver.expect(payloads(50))
        settle_sent(beside, 50)
    assert not is_attached(lab, "big")
    if how == signal.SIGKILL:
        assert settings(lab) != before
        with lab.relay:
            fixes = {each.fix for each in mcr.diagnose() if each.name == "offload"}
        assert "ethtool -K in0 rx-vlan-hw-parse on" in fixes
        with serving(lab.relay) as successor:
            successor.wait_for("turned rx-vlan-hw-parse of in0 on again")
    assert settings(lab) == before


def test_a_daemon_with_a_program_of_another_one_in_its_way(lab: Lab) -> None:
    """It never replaces the program; the engine relays, until the other one ends."""
    with serving(lab.relay, "--offload", "auto") as daemon, daemon.client() as client:
        with offloading(lab, ONE):
            client.add_rules([TWO])
            (rule,) = client.stats().rules
            assert (rule.offload, rule.offload_reason) == ("engine", "hook")
            assert is_attached(lab)
        in_kernel(client, 1)


def test_missing_capabilities_are_named(lab: Lab) -> None:
    """`require` does not start; `auto` warns and relays without the kernel."""
    names = "CAP_PERFMON and CAP_BPF are missing"
    command = lab.relay.command(*LIMITED, MCR, "serve", "--offload", "require")
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROCESS_S)
    assert run.returncode == 1
    assert f"{names}: run as root, grant them, or use --offload off" in run.stderr
    with (
        serving(lab.relay, "--offload", "auto", before=LIMITED) as daemon,
        daemon.client() as client,
        lab.receive("239.2.97.1", 6001) as receiver,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        daemon.wait_for(f"{names}: offload is off")
        client.add_rules([ONE])
        sender.send(payloads(50))
        receiver.expect(payloads(50))
        (rule,) = settle_sent(client, 50, 50).rules
        assert (rule.offload, rule.offload_reason) == ("engine", "off")


def test_several_workers_relay_without_the_kernel(lab: Lab) -> None:
    """`require` does not start; with `auto` each rule has the reason."""
    command = lab.relay.command(MCR, "serve", "--offload", "require", "--workers", "2")
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROCESS_S)
    assert run.returncode == 2
    assert "require needs --workers 1" in " ".join(run.stderr.split())
    with (
        serving(lab.relay, "--offload", "auto", "--workers", "2") as daemon,
        daemon.client() as client,
        lab.receive("239.2.97.1", 6001) as receiver,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        daemon.wait_for("with --workers 2 the engine relays every rule: offload needs --workers 1")
        client.add_rules([ONE])
        sender.send(payloads(50))
        receiver.expect(payloads(50))
        (rule,) = settle_sent(client, 50, 50).rules
        assert (rule.offload, rule.offload_reason) == ("engine", "processes")
        assert not is_attached(lab)


def test_rights_are_kept_only_for_offload(lab: Lab) -> None:
    """The supervisor has CAP_BPF and CAP_PERFMON with it, and the worker nothing in either case."""
    for arguments, has in (((), False), (("--offload", "auto"), True)):
        with serving(lab.relay, *arguments) as daemon:
            effective = [_effective(pid) for pid in (daemon.supervisor, *daemon.workers)]
            assert [bool(effective[0] >> number & 1) for number in (38, 39)] == [has, has]
            assert effective[1:] == [0]


def _effective(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("\nCapEff:")[1].split()[0], 16)


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_rules_that_a_dead_worker_has_left_are_removed(lab: Lab, mode: str) -> None:
    """The kernel relays by them until its successor starts, which has no rules any more."""
    with (
        offloading(lab, ONE, mode=mode) as (daemon, client),
        lab.receive("239.2.97.1", 6001) as receiver,
        lab.sender("239.1.97.1", 5001) as sender,
    ):
        first = daemon.workers
        kill(*first)
        wait_until(lambda: daemon.workers not in ([], first))
        in_kernel(client, 1)
        kill(*daemon.workers)  # from the second death on the restart is delayed
        sender.send(payloads(20))
        receiver.expect(payloads(20))
        receiver.forget()
        client.replace_rules([])
        wait_until(lambda: not is_attached(lab))
        sender.send(payloads(20))
        wait_until(lambda: daemon.workers)
        assert client.stats().rules == ()
        assert receiver.drain() == []

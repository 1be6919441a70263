"""A thousand hosts that receive one input: how long a change of one takes, and what each costs."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import settle
from .daemons import memory_kib, serving
from .egress import Kind, matched
from .lab import Lab
from .namespaces import Net
from .relays import Ingress, relaying
from .traffic import PacedFlow, payloads

OUTPUTS = 1000
INPUT = "239.1.120.1%in0:5001"
RATE_PPS = 30
CHANGE_S = 0.02
"""Four times what it may take on a quiet machine."""
OUTPUT_CHANGE_S = {"library": 0.012, "daemon": 0.03}
"""Four times the processor time that an edit of one output of a rule takes."""
WORKER_KIB, ALL_KIB = 2, 5
"""The memory of an output in a worker, and in all processes together."""


@pytest.fixture
def lab(_rights: None) -> Iterator[Lab]:
    """A network of its own, with room for the hosts."""
    with Net() as net:
        made = Lab.build(net)
        made.relay.address("out0", "10.200.0.1/16")
        # No host needs to answer.
        batch = "".join(
            f"neigh add {host(number)} lladdr 2:0:0:0:0:1 dev out0\n" for number in range(OUTPUTS)
        )
        made.relay.run("sh", "-c", f"printf '{batch}' | ip -batch -")
        yield made


def host(number: int) -> str:
    """The address of a receiver."""
    return f"10.200.{1 + number // 250}.{1 + number % 250}"


def test_one_of_a_thousand_rules_for_an_input_changes_at_once(lab: Lab) -> None:
    """With a rule for each host, adding or removing one touches no other."""
    rules = [f"{INPUT},name=r{number} to {host(number)}:7000" for number in range(OUTPUTS)]
    with (
        relaying(lab.relay, *rules, egress="socket") as relay,
        lab.sender("239.1.120.1", 5001) as sender,
    ):
        sender.send(payloads(2))
        wait_until(lambda: matched(relay.stats()) == 2 * OUTPUTS)
        took_s = []
        for number in range(10):
            began_s = time.perf_counter()
            with lab.relay:
                relay.remove_rule(relay.rules[number].id)
                middle_s = time.perf_counter()
                relay.add_rule(f"{INPUT},name=n{number} to {host(number)}:7001")
            took_s += [middle_s - began_s, time.perf_counter() - middle_s]
        assert min(took_s[::2]) < CHANGE_S, took_s
        assert min(took_s[1::2]) < CHANGE_S, took_s
        sender.send(payloads(1))
        wait_until(lambda: matched(relay.stats()) == 3 * (OUTPUTS - 10) + 10)


def test_a_thousand_outputs_of_a_rule_take_little_memory(lab: Lab) -> None:
    """And each of them gets its copies."""
    with (
        serving(lab.relay, "--egress", "socket") as daemon,
        daemon.client() as client,
        lab.sender("239.1.120.1", 5001) as sender,
    ):
        client.add_rule("239.1.120.2%in0:5001 to 10.200.0.2:7000")
        before = [memory_kib(pid) for pid in daemon.processes]
        worker = memory_kib(daemon.workers[0])
        outputs = " ".join(f"{host(number)}:7000" for number in range(OUTPUTS))
        client.add_rule(mcr.Rule.parse(f"{INPUT} to {outputs}"))
        grown = sum(memory_kib(pid) for pid in daemon.processes) - sum(before)
        assert (memory_kib(daemon.workers[0]) - worker) / OUTPUTS < WORKER_KIB
        assert grown / OUTPUTS < ALL_KIB
        sender.send(payloads(3))
        settle(client, lambda stats: stats.as_dict()["totals"]["sent"] == 3 * OUTPUTS)


@contextlib.contextmanager
def changeable(lab: Lab, kind: Kind, ingress: Ingress) -> Iterator[mcr.Relay | mcr.Client]:
    """A relay of this process, or a client of a daemon."""
    if kind == "library":
        with relaying(lab.relay, ingress=ingress, egress="socket") as relay:
            yield relay
        return
    with (
        serving(lab.relay, "--ingress", ingress, "--egress", "socket") as daemon,
        daemon.client() as client,
    ):
        yield client


@pytest.mark.alone
def test_a_change_of_one_output_takes_little_processor_time(lab: Lab, kind: Kind) -> None:
    """In a program, or in all processes of a daemon together."""
    outputs = [mcr.Output(host(number), 7000) for number in range(OUTPUTS)]
    with changeable(lab, kind, "udp") as relay, lab.relay:
        relay.replace_rules([mcr.Rule(mcr.Input.parse(INPUT), outputs, name="many")])
        spent_s: dict[str, list[float]] = {}
        for number in range(2, 7):
            edits: dict[str, dict[str, Any]] = {
                "set": {"set_outputs": {number * 100: f"ttl={number}"}},
                "add": {"add_outputs": [f"{host(number)}:7001"]},
                "remove": {"remove_outputs": [number]},
            }
            for name, edit in edits.items():
                before_s = processor_s(relay)
                relay.edit_rule("many", **edit)
                spent_s.setdefault(name, []).append(processor_s(relay) - before_s)
        best_s = {name: min(each) for name, each in spent_s.items()}
        assert max(best_s.values()) < OUTPUT_CHANGE_S[kind], spent_s


def processor_s(relay: mcr.Relay | mcr.Client) -> float:
    """The processor time so far of this thread, or of all threads of the daemon."""
    if isinstance(relay, mcr.Relay):
        return time.thread_time()
    (worker,) = relay.workers()
    supervisor = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[1]
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    tasks = [
        task for pid in (supervisor, *children) for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def test_a_change_of_one_output_touches_no_other(lab: Lab, kind: Kind) -> None:
    """Whether it is replaced, removed or added, the others keep order, sockets and counters."""
    source = mcr.Input.parse(INPUT)
    first, last = (mcr.Output.parse(f"239.2.120.{end}%out0:6001") for end in (1, 2))
    hosts = [mcr.Output(host(number), 7000) for number in range(OUTPUTS - 2)]
    with (
        changeable(lab, kind, "packet") as relay,
        lab.receive("239.2.120.1", 6001) as receiver,
        lab.receive("239.2.120.2", 6001) as other,
        lab.sender("239.1.120.1", 5001) as sender,
    ):

        def change(*changed: mcr.Output) -> None:
            with lab.relay:
                relay.replace_rules([mcr.Rule(source, changed)])

        change(first, *hosts, last)
        with PacedFlow(sender, RATE_PPS) as flow:
            for number in range(1, OUTPUTS, OUTPUTS // 4):
                flow.advance(2)
                changed = list(hosts)
                changed[number] = mcr.Output(host(number), 7001)
                change(first, *changed, last)
                flow.advance(2)
                del changed[number]
                change(first, *changed, last)
                change(first, *hosts, last)
            flow.advance(2)
        count = len(flow.sent)
        receiver.expect(flow.sent)
        other.expect(flow.sent)
        stats = settle(relay, lambda stats: stats.rules[0].outputs[0].sent == count)
        outputs = stats.rules[0].outputs
        assert [outputs[at].sent for at in (0, 1, 3, OUTPUTS - 1)] == [count] * 4
        assert 0 < outputs[2].sent < count
        assert sum(each.sent == count for each in outputs) == OUTPUTS - 4
        # The rate of what continues is none of a start from zero.
        assert all(each.rate_1s is None or each.rate_1s.pps < 3 * RATE_PPS for each in outputs)
        assert len(set(receiver.sources)) == len(set(other.sources)) == 1

"""Real nodes, each with a daemon and an agent of its own: one revision to all, and trees."""

import json
import subprocess
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.support.fleet_agent import MCR
from tests.support.own_command import mcr_here

from mcr.fleet import FleetDocument

from .checks import assert_balanced
from .fleet_nodes import DOCUMENT, RULE, RealFleet, check_traffic, real_fleet
from .namespaces import Net
from .traffic import PacedFlow, Receiver, Sender

pytestmark = pytest.mark.timeout(180)  # a dozen processes start
NODES, WITHIN_S = 6, 10.0
STREAM, PORT, RATE_PPS = "239.1.95.1", 5001, 1000
DELIVERED = ("127.0.0.1", 7000)
NUMBERS = "seq:0:64le"
"""Of the datagrams of a `PacedFlow`."""


@pytest.fixture(scope="module")
def fleet(net: Net) -> Iterator[RealFleet]:
    """The nodes n1 to n6."""
    with real_fleet(net, NODES) as made:
        yield made


def test_one_revision_reaches_all_nodes(fleet: RealFleet) -> None:
    """All answer, the status of each says so, and all of them relay; a mistake changes nothing."""
    result, seconds = fleet.apply(RULE)
    print(f"one revision has reached {NODES} nodes after {seconds:.2f} s")
    assert result.is_complete
    assert result.applied == fleet.names
    assert seconds < WITHIN_S
    text = FleetDocument(DOCUMENT, f"rules = {json.dumps([RULE])}\n").revision
    for status in json.loads(fleet.command("nodes", "--json")):
        assert (status["state"], status["rules"]) == ("applied", 1)
        assert status["applied"] == status["revisions"] == {DOCUMENT: text}
    check_traffic(fleet)
    result, _ = fleet.apply(RULE, "no rule")
    assert result.refused
    for status in json.loads(fleet.command("nodes", "--json")):
        assert status["applied"] == {DOCUMENT: text}
    check_traffic(fleet)
    fleet.apply()


def test_the_loss_of_a_whole_tree_loses_nothing(fleet: RealFleet, tmp_path: Path) -> None:
    """Two trees with roots of their own, merged where they end: each datagram once."""
    spec = tree_file(tmp_path, roots=("n1", "n2"), merge=NUMBERS)
    fleet.command("apply", plan(spec), "--yes")
    trees = json.loads((tmp_path / "out" / "tree.json").read_text())["trees"]
    cut = {"n1", *trees[0].values()}
    with streaming(fleet) as (flow, receivers):
        flow.advance(RATE_PPS)
        for name in cut:
            fleet.core.set_up(f"p{name[1:]}", up=False)
        try:
            flow.advance(RATE_PPS)
        finally:
            for name in cut:
                fleet.core.set_up(f"p{name[1:]}", up=True)
        flow.advance(RATE_PPS)
        flow.stop()
        kept = [each for name, each in receivers.items() if name not in {"n2", *cut}]
        assert len(kept) >= 2
        for receiver in kept:
            assert sorted(receiver.wait_for(len(flow.sent))) == sorted(flow.sent)
    for node in fleet.nodes:
        with node.daemon.client() as client:
            stats = client.stats()
            assert_balanced(stats)
            for rule in stats.rules:
                if rule.merge is not None and node.name not in cut:
                    assert rule.merge.lost == 0
                    assert rule.merge.legs[0].missing > 0


def test_a_killed_relay_is_left_out_by_command(fleet: RealFleet, tmp_path: Path) -> None:
    """Those below it lose what came until they moved; other nodes lose nothing."""
    spec = tree_file(tmp_path, roots=("n1",))
    fleet.command("apply", plan(spec), "--yes")
    with streaming(fleet) as (flow, receivers):
        dying, below, others = victims(spec)
        first = begin_to_count(receivers, flow, (*below, *others))
        fleet.node(dying).kill()
        flow.advance(100)
        out = plan(spec, "--without", dying)
        said = fleet.command("apply", out, "--yes", "--absent", dying, code=1)
        assert f"follow when they return: {dying}" in said
        check_losses(flow, receivers, first, below, others)
        fleet.revive(fleet.node(dying))
        fleet.command("apply", plan(spec), "--yes")
        receivers[dying].forget()
        assert receivers[dying].wait_for(50)


def test_a_killed_relay_is_left_out_by_itself(fleet: RealFleet, tmp_path: Path) -> None:
    """By `--auto`: the same, once it has not reported for a while; it returns once it stays."""
    spec = tree_file(tmp_path, roots=("n1",))
    with keeping(fleet, spec) as said, streaming(fleet) as (flow, receivers):
        wait_for(said, "planned with all nodes")
        wait_for(said, "applied")
        dying, below, others = victims(spec)
        first = begin_to_count(receivers, flow, (*below, *others))
        fleet.node(dying).kill()
        wait_for(said, f"planned without {dying}")
        wait_for(said, "applied")
        check_losses(flow, receivers, first, below, others)
        fleet.revive(fleet.node(dying))
        wait_for(said, "planned with all nodes")
        wait_for(said, "applied")
        receivers[dying].forget()
        assert receivers[dying].wait_for(50)


def victims(spec: Path) -> tuple[str, set[str], set[str]]:
    """A relay of the tree, the nodes that receive from it, and all others but the root."""
    (parents,) = json.loads((spec.parent / "out" / "tree.json").read_text())["trees"]
    dying = next(parent for parent in parents.values() if parent != "n1")
    below = {name for name, parent in parents.items() if parent == dying}
    return dying, below, parents.keys() - {dying} - below


def begin_to_count(receivers: dict[str, Receiver], flow: PacedFlow, names: Iterable[str]) -> int:
    """Wait until nodes have received some of the stream since now; return the next number."""
    for name in names:
        receivers[name].forget()
        receivers[name].wait_for(1)
    flow.advance(100)
    return len(flow.sent)


def check_losses(
    flow: PacedFlow,
    receivers: dict[str, Receiver],
    first: int,
    below: Collection[str],
    others: Collection[str],
) -> None:
    """Below the node that died one piece of the stream is lost, elsewhere nothing."""
    last = len(flow.sent)
    flow.advance(100)  # what comes after the last one, if processors have changed its order
    end = flow.sent[-1]
    for name in (*below, *others):
        found = (
            int.from_bytes(each[:8], "little") for each in receivers[name].wait_for_payload(end)
        )
        numbers = [each for each in found if first <= each < last]
        lost = sorted({*range(first, last)} - {*numbers})
        print(f"{name}: {len(lost)} of {last - first} datagrams lost")
        assert bool(lost) == (name in below)
        assert not lost or lost == [*range(lost[0], lost[-1] + 1)]
        assert name in below or len(numbers) == last - first, "some came twice"


def tree_file(directory: Path, *, roots: tuple[str, ...], merge: str | None = None) -> Path:
    """A tree over all nodes, each of which delivers the stream on its loopback."""
    spec = directory / "tree.toml"
    lines = [
        f'source = "{STREAM}%eth0:{PORT}"',
        f'deliver = "{DELIVERED[0]}:{DELIVERED[1]}"',
        f"port = 5100\nfan_out = 2\nroots = {json.dumps(roots)}",
        *([] if merge is None else [f'merge = "{merge}"']),
    ]
    for number in range(1, 1 + NODES):
        lines += [f"[nodes.n{number}]", f'address = "10.93.1.{number}%eth0"']
    spec.write_text("\n".join((*lines, "")))
    return spec


def plan(spec: Path, *options: str) -> str:
    """Plan a tree; return the directory of its documents."""
    out = str(spec.parent / "out")
    assert mcr_here("fleet", "tree", spec, out, *options).code == 0
    return out


@contextmanager
def streaming(fleet: RealFleet) -> Iterator[tuple[PacedFlow, dict[str, Receiver]]]:
    """Send the stream to the roots, and receive it on each node."""
    with ExitStack() as stack:
        receivers = {
            each.name: stack.enter_context(Receiver(each.host, "lo", *DELIVERED))
            for each in fleet.nodes
        }
        sender = stack.enter_context(Sender(fleet.core, "core0", STREAM, PORT))
        flow = stack.enter_context(PacedFlow(sender, RATE_PPS))
        yield flow, receivers


@contextmanager
def keeping(fleet: RealFleet, spec: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run `mcr fleet tree --auto` with short times until SIGTERM."""
    command = [MCR, "fleet", "tree", str(spec), str(spec.parent / "out"), "--auto"]
    command += ["--dead-after", "1", "--back-after", "2", "--nats", fleet.cluster.url]
    with subprocess.Popen(
        fleet.core.command(*command), stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield process
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


def wait_for(process: "subprocess.Popen[str]", text: str) -> None:
    """Read what the process prints until a line has this text."""
    assert process.stdout is not None
    seen = ""
    while text not in seen:
        line = process.stdout.readline()
        assert line, f"ended without {text!r}: {seen}"
        seen += line

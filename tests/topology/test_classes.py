"""Classes of traffic that share the rate of an interface: what arrives of each under overload."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.deadline import wait_until

import mcr

from .bulk import SIZE, bulk_flow
from .checks import HasDict, assert_balanced
from .daemons import put_first, serving
from .deaths import kill
from .egress import OUT_PORT, PORT, Kind, copy_group, flow, output, rule
from .lab import Lab
from .relays import Ingress, put_engines_first, relaying
from .traffic import payloads

RATE_PPS = 4000
RATE = f"{RATE_PPS * SIZE * 8 // 1000}kbit"
BURST = 100_000
"""Bytes: so many that a busy machine may hold up the sender or the relay for 100 ms."""
SECONDS = 3.0
CASES = [
    ("library", "packet", 4, True),
    ("library", "udp", 6, False),
    ("daemon", "packet", 6, False),
    ("daemon", "udp", 4, True),
]


def classed(number: int, name: str | None, *outputs: str, version: int = 4) -> str:
    """The rule for the input with this number, in a class."""
    text = rule(number, *(outputs or (output(number, version=version),)), version=version)
    return text if name is None else text.replace(" to ", f",class={name} to ", 1)


@dataclass(frozen=True, slots=True)
class Shaper:
    """A relay of either kind, as far as classes go."""

    stats: Callable[[], HasDict]
    set_class: Callable[[mcr.TrafficClass], None]
    set_rate: Callable[[mcr.InterfaceRate], None]
    remove_rate: Callable[[str], None]


@contextlib.contextmanager
def shaping(
    lab: Lab,
    kind: Kind,
    ingress: Ingress,
    rules: Sequence[str],
    *classes: mcr.TrafficClass,
    rate: str = RATE,
) -> Iterator[Shaper]:
    """Relay the rules with these classes, while the outputs on out0 share a rate."""
    limit = mcr.InterfaceRate("out0", rate, BURST)
    if kind == "library":
        with relaying(
            lab.relay, *rules, ingress=ingress, classes=classes, interface_rates=[limit]
        ) as relay:
            put_engines_first()
            yield Shaper(
                relay.stats,
                relay.set_class,
                relay.set_interface_rate,
                relay.remove_interface_rate,
            )
        return
    with serving(lab.relay, "--ingress", ingress) as daemon, daemon.client() as client:
        put_first(daemon)

        def set_class(one: mcr.TrafficClass) -> None:
            members = {"priority": one.priority, "weight": one.weight}
            client.change_shaping(classes={one.name: members})

        def set_rate(one: mcr.InterfaceRate) -> None:
            client.change_shaping(
                interfaces={one.interface: {"rate": one.rate, "burst": one.burst}}
            )

        def remove_rate(interface: str) -> None:
            client.change_shaping(interfaces={interface: None})

        for each in classes:
            set_class(each)
        set_rate(limit)
        client.add_rules(rules)
        yield Shaper(client.stats, set_class, set_rate, remove_rate)


def counters(stats: HasDict, place: int) -> dict[str, Any]:
    """The counters of the first output of a rule."""
    found: dict[str, Any] = stats.as_dict()["rules"][place]["outputs"][0]
    return found


def rates_pps(stats: Callable[[], HasDict], *places: int, seconds: float = SECONDS) -> list[float]:
    """What the first outputs of these rules send a second, by their counters."""
    before, began_s = stats(), time.monotonic()
    time.sleep(seconds)
    after, ended_s = stats(), time.monotonic()
    for each in (before, after):
        assert_balanced(each)
    sent = [counters(after, each)["sent"] - counters(before, each)["sent"] for each in places]
    return [each / (ended_s - began_s) for each in sent]


def ends(number: int, version: int = 4) -> tuple[tuple[str, int], tuple[str, int]]:
    """Where the flow with this number is sent to, and where its copies arrive."""
    return (flow(number, version).group, PORT), (copy_group(number, version), OUT_PORT)


def wait_for_overload(stats: Callable[[], HasDict], *places: int) -> None:
    """Until the first outputs of these rules drop for the rate of their interface."""
    wait_until(
        lambda: all(counters(stats(), each)["dropped"]["class_limited"] > 100 for each in places)
    )


@pytest.mark.parametrize(("kind", "ingress", "version", "gro"), CASES)
def test_of_twice_the_rate_a_higher_priority_loses_nothing(
    lab: Lab, kind: Kind, ingress: Ingress, version: int, gro: bool
) -> None:
    """The lower one gets what is left; copies on another interface lose nothing."""
    lab.set_offload(on=gro)
    low = (output(2, version=version), output(3, "out1", version=version))
    rules = [
        classed(1, "live", version=version),
        classed(2, "bulk", *low, version=version),
    ]
    classes = mcr.TrafficClass("live", priority=7), mcr.TrafficClass("bulk", priority=1)
    with (
        shaping(lab, kind, ingress, rules, *classes) as shaper,
        lab.receive(copy_group(3, version), OUT_PORT, "d1") as neighbour,
        bulk_flow(lab, *ends(1, version), rate_pps=RATE_PPS // 2) as live,
        bulk_flow(lab, *ends(2, version), rate_pps=RATE_PPS * 3 // 2) as bulk,
    ):
        wait_for_overload(shaper.stats, 1)
        found = rates_pps(shaper.stats, 0, 1)
        high, low_flow = live.end(), bulk.end()
        neighbour.wait_for(low_flow.sent)
        stats = shaper.stats()
    high.assert_whole()
    assert len(neighbour.collected) == low_flow.sent
    assert 0.98 * RATE_PPS < sum(found) < 1.02 * RATE_PPS, found
    counts = counters(stats, 1)
    assert_balanced(stats)
    assert (low_flow.received, low_flow.late, low_flow.own_loss) == (counts["sent"], 0, 0)
    assert counts["wanted"] == counts["sent"] + counts["dropped"]["class_limited"]
    assert counts["dropped"]["class_limited"] == low_flow.sent - low_flow.received
    listed = {each["name"]: each for each in stats.as_dict()["classes"]}
    assert [*listed] == ["live", "default", "bulk"]
    assert listed["live"]["sent"] == high.sent
    assert listed["live"]["lost"] == listed["default"]["rules"] == 0
    assert listed["bulk"]["class_limited"] == counts["dropped"]["class_limited"]


@pytest.mark.parametrize(("kind", "ingress", "version", "gro"), [CASES[0], CASES[1], CASES[3]])
def test_classes_of_one_priority_share_by_weight(
    lab: Lab, kind: Kind, ingress: Ingress, version: int, gro: bool
) -> None:
    """With the weights 3 and 1, three quarters and one; each flow keeps its order."""
    lab.set_offload(on=gro)
    rules = [classed(1, "gold", version=version), classed(2, None, version=version)]
    with (
        shaping(lab, kind, ingress, rules, mcr.TrafficClass("gold", weight=3)) as shaper,
        bulk_flow(lab, *ends(1, version), rate_pps=RATE_PPS) as one,
        bulk_flow(lab, *ends(2, version), rate_pps=RATE_PPS) as other,
    ):
        wait_for_overload(shaper.stats, 0, 1)
        gold, default = rates_pps(shaper.stats, 0, 1)
        flows = [one.end(), other.end()]
        stats = shaper.stats()
    assert 0.98 * RATE_PPS < gold + default < 1.02 * RATE_PPS, (gold, default)
    assert 0.95 * 3 < gold / default < 1.05 * 3, (gold, default)
    for place, found in enumerate(flows):
        sent = counters(stats, place)["sent"]
        assert (found.received, found.late, found.own_loss) == (sent, 0, 0)


@pytest.mark.parametrize("kind", ["library", "daemon"])
def test_changes_cost_what_stays_nothing(lab: Lab, kind: Kind) -> None:
    """Weights and rates change under traffic; a flow that fits is whole all the time."""
    rules = [classed(1, "live"), classed(2, "gold"), classed(3, None)]
    classes = mcr.TrafficClass("live", priority=7), mcr.TrafficClass("gold", weight=3)
    with (
        shaping(lab, kind, "packet", rules, *classes) as shaper,
        bulk_flow(lab, *ends(1), rate_pps=RATE_PPS // 4) as live,
        bulk_flow(lab, *ends(2), rate_pps=RATE_PPS) as _gold,
        bulk_flow(lab, *ends(3), rate_pps=RATE_PPS) as _default,
    ):
        wait_for_overload(shaper.stats, 1, 2)
        first = rates_pps(shaper.stats, 1, 2, seconds=2)
        shaper.set_class(mcr.TrafficClass("gold", weight=1))
        time.sleep(0.3)
        second = rates_pps(shaper.stats, 1, 2, seconds=2)
        shaper.set_rate(mcr.InterfaceRate("out0", f"{RATE_PPS // 2}pps", 500))
        time.sleep(0.5)
        third = rates_pps(shaper.stats, 0, 1, 2, seconds=2)
        shaper.remove_rate("out0")
        time.sleep(0.3)
        fourth = rates_pps(shaper.stats, 1, 2, seconds=1)
        found = live.end()
    found.assert_whole()
    assert 0.9 * 3 < first[0] / first[1] < 1.1 * 3, first
    assert 0.9 < second[0] / second[1] < 1.1, second
    assert 0.97 * RATE_PPS / 2 < sum(third) < 1.03 * RATE_PPS / 2, third
    assert min(fourth) > 0.9 * RATE_PPS, fourth


def test_a_restarted_worker_keeps_classes_and_rates(lab: Lab) -> None:
    """Its successor shares as it did; what a class lost before stays counted."""
    rules = [classed(1, "gold"), classed(2, None)]
    with serving(lab.relay, "--ingress", "packet") as daemon, daemon.client() as client:
        client.change_shaping(
            classes={"gold": {"weight": 3}}, interfaces={"out0": {"rate": RATE, "burst": BURST}}
        )
        client.add_rules(rules)
        with (
            bulk_flow(lab, *ends(1), rate_pps=RATE_PPS),
            bulk_flow(lab, *ends(2), rate_pps=RATE_PPS),
        ):
            wait_for_overload(client.stats, 0, 1)
            before = counters(client.stats(), 0)
            kill(*daemon.workers)
            wait_until(lambda: counters(client.stats(), 0)["sent"] > before["sent"] + 2000)
            gold, default = rates_pps(client.stats, 0, 1)
            after = counters(client.stats(), 0)
    assert 0.95 * 3 < gold / default < 1.05 * 3, (gold, default)
    assert after["dropped"]["class_limited"] > before["dropped"]["class_limited"]


@pytest.mark.parametrize(("kind", "workers"), [("library", 2), ("daemon", 2)])
def test_several_workers_together_send_no_more_than_the_rate(
    lab: Lab, kind: Kind, workers: int
) -> None:
    """Threads share the buckets; worker processes each have their part of the rate."""
    rules = [classed(number, None) for number in (1, 2, 3, 4)]
    with contextlib.ExitStack() as stack:
        limit = mcr.InterfaceRate("out0", RATE, BURST)
        if kind == "library":
            stats = stack.enter_context(
                relaying(
                    lab.relay,
                    *rules,
                    ingress="packet",
                    workers=workers,
                    interface_rates=[limit],
                )
            ).stats
        else:
            daemon = stack.enter_context(serving(lab.relay, "--workers", str(workers)))
            client = stack.enter_context(daemon.client())
            client.change_shaping(interfaces={"out0": {"rate": RATE, "burst": BURST}})
            client.add_rules(rules)
            stats = client.stats
        for number in (1, 2, 3, 4):
            stack.enter_context(bulk_flow(lab, *ends(number), rate_pps=RATE_PPS * 3 // 4))
        wait_until(lambda: sum(class_limited(stats())) > 1000)
        found = sum(rates_pps(stats, 0, 1, 2, 3))
        assert_balanced(stats())
    bursts = 2 * BURST / SIZE / SECONDS  # of processes whose buckets were full at the start
    assert found < 1.02 * RATE_PPS + bursts, found
    # Which sender belongs to which process is not known: one may have none.
    assert found > (0.98 if kind == "library" else 0.49) * RATE_PPS, found


def class_limited(stats: HasDict) -> list[int]:
    """What each first output has lost to the rate of its interface."""
    places = range(len(stats.as_dict()["rules"]))
    return [counters(stats, place)["dropped"]["class_limited"] for place in places]


def test_what_has_waited_is_held_against_the_rate_too(lab: Lab) -> None:
    """Copies of an output with a queue of its own leave within the rate of the interface."""
    options = ",rate=2kpps,burst=20,queue=200ms"
    text = classed(1, None, output(1, options=options))
    limit = mcr.InterfaceRate("out0", "1kpps", 10)
    sent = payloads(300, (1000,))
    with (
        lab.receive(copy_group(1), OUT_PORT) as receiver,
        relaying(lab.relay, text, ingress="packet", interface_rates=[limit]) as relay,
        lab.sender(flow(1).group, PORT) as sender,
    ):
        sender.send(sent)
        wait_until(lambda: counters(relay.stats(), 0)["wanted"] == len(sent))
        wait_until(lambda: counters(relay.stats(), 0)["pending"] == 0)
        assert_balanced(relay.stats())
        counts = counters(relay.stats(), 0)
        receiver.wait_for(counts["sent"])
    arrived = set(receiver.collected)
    assert receiver.collected == [each for each in sent if each in arrived]
    assert 100 < counts["sent"] < 220, counts
    assert counts["dropped"]["class_limited"] > 50, counts


def test_a_configuration_defines_classes(lab: Lab, tmp_path: Path) -> None:
    """The daemon reads them, keeps what clients change, and takes back what the file leaves out."""
    tmp_path.chmod(0o755)
    file = tmp_path / "mcr.toml"
    rules = f'rules = ["{classed(1, "gold")}"]\n'
    tables = "[classes.gold]\nweight = 3\n[classes.spare]\npriority = 0\n[interfaces.out0]\n"
    file.write_text(f'{rules}{tables}rate = "1mbit"\n')
    with serving(lab.relay, "--config", str(file)) as daemon, daemon.client() as client:
        shaping = client.shaping()
        found = {(each.name, each.priority, each.weight) for each in shaping.classes}
        assert found == {("gold", 3, 3), ("default", 3, 1), ("spare", 0, 1)}
        assert [(each.interface, each.rate) for each in shaping.interfaces] == [("out0", "1mbit")]
        client.change_shaping(classes={"own": {"priority": 5}})
        file.write_text(f"{rules}[classes.gold]\nweight = 2\n")
        changed = client.reload()
        assert set(changed.classes) == {"gold", "spare"}
        assert changed.interfaces == ("out0",)
        kept = {each.name: each for each in client.shaping().classes}
        assert [*sorted(kept)] == ["default", "gold", "own"]
        assert (kept["gold"].weight, kept["gold"].rules) == (2, 1)
        file.write_text(rules)
        with pytest.raises(
            mcr.RuleError, match=r"'gold' is in use by rule [0-9a-f]{12}; give its rules"
        ):
            client.reload()
        assert client.shaping().as_shaping().classes["gold"].weight == 2
        kill(daemon.control)
        wait_until(lambda: "gold" in {each.name for each in retried(daemon)})


def retried(daemon: Any) -> Sequence[Any]:  # noqa: ANN401 -- a daemon whose control is replaced
    """The classes of a daemon; none while nothing answers."""
    with contextlib.suppress(mcr.DaemonError), daemon.client() as client:
        found: Sequence[Any] = client.shaping().classes
        return found
    return ()

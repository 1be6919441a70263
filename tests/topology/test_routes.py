"""Routes and addresses that change under traffic: copies carry what an ordinary socket would send.

Interfaces, routes and addresses change here, so each test has a network of its own.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests.support.deadline import wait_until

import mcr

from .checks import HasStats, assert_balanced, settle_sent
from .daemons import cpu_s, memory_kib, serving
from .lab import Lab
from .namespaces import Net
from .relays import relaying
from .traffic import PacedFlow, Receiver, Sender

GROUP = "239.1.110.1"
HOSTS = {"v4": "10.9.9.9", "v6": "fd09::9"}
FOLLOW_S = 1.0
RATE_PPS = 2000
Where = Literal["library", "daemon"]


@pytest.fixture
def lab(_rights: None) -> Iterator[Lab]:
    """A network whose routes may change, with a host behind both ways out."""
    with Net() as net:
        made = Lab.build(net)
        for host in HOSTS.values():
            made.receiver.address("lo", f"{host}/{128 if ':' in host else 32}")
        yield made


@pytest.fixture(params=["library", "daemon"])
def where(request: pytest.FixtureRequest) -> Where:
    """Who opens the sockets: this process, or another one than relays."""
    found: Where = request.param
    return found


@contextlib.contextmanager
def relay(lab: Lab, where: Where, rule: str) -> Iterator[HasStats[mcr.Stats]]:
    """The rule, relayed."""
    if where == "library":
        with relaying(lab.relay, rule) as here:
            yield here
        return
    with serving(lab.relay) as daemon, daemon.client() as client:
        client.add_rule(rule)
        yield client
        assert_balanced(client.stats())


def written(address: str) -> str:
    """The address as rules have it in front of a port."""
    return f"[{address}]" if ":" in address else address


def sends_from(sender: Sender, receiver: Receiver) -> str:
    """The source of a copy that leaves now."""
    receiver.forget()
    sender.send([b"probe"])
    with contextlib.suppress(AssertionError):
        receiver.wait_for(1, seconds=0.1)
    return receiver.sources[-1][0] if receiver.sources else "nobody"


@pytest.mark.parametrize("family", HOSTS)
def test_a_route_moves(lab: Lab, where: Where, family: str) -> None:
    """Copies take the source of the new way; none is lost, the order and the port stay."""
    host = HOSTS[family]
    gateways = ("10.2.0.2", "10.3.0.2") if family == "v4" else ("fd02::2", "fd03::2")
    sources = [gateway[:-1] + "1" for gateway in gateways]
    for metric, gateway in enumerate(gateways, start=10):
        lab.relay.ip("route", "add", host, "via", gateway, "metric", str(metric))
    with (
        lab.receive(host, 7000) as first,
        lab.receive(host, 7000, "d1") as second,
        lab.sender(GROUP, 5001) as sender,
        relay(lab, where, f"{GROUP}%in0:5001 to {written(host)}:7000") as running,
        PacedFlow(sender, RATE_PPS) as flow,
    ):
        flow.advance(100)
        lab.relay.ip("route", "del", host, "via", gateways[0])

        def follows() -> bool:
            second.drain()
            return bool(second.sources) and second.sources[-1][0] == sources[1]

        wait_until(follows, FOLLOW_S)
        flow.advance(100)
        lab.relay.ip("route", "add", host, "via", gateways[0], "metric", "10")
        count = len(first.drain())
        wait_until(lambda: first.drain()[count:] and first.sources[-1][0] == sources[0], FOLLOW_S)
        flow.advance(100)
        flow.stop()
        settle_sent(running, len(flow.sent))
        first.wait_for(len(flow.sent) - len(second.drain()))
        both = [(place, number) for number in (first, second) for place in number.sources]
        assert {source[1] for source, _ in both} == {first.sources[0][1]}, "the port changed"
        numbers = [int.from_bytes(one[:8], "little") for one in first.collected]
        others = [int.from_bytes(one[:8], "little") for one in second.collected]
        assert numbers == sorted(numbers)
        assert others == sorted(others)
        assert sorted(numbers + others) == list(range(len(flow.sent)))
        foreign = [source for source in second.sources if source[0] == sources[0]]
        assert len(foreign) < RATE_PPS // 2


def test_a_better_way_comes_later(lab: Lab, where: Where) -> None:
    """A link, as of a VPN, that comes after the rule; and a routing rule that takes it away."""
    lab.relay.ip("route", "add", "default", "via", "10.2.0.2")
    with (
        relay(lab, where, f"{GROUP}%in0:5001 to 10.7.0.2:7000") as running,
        lab.sender(GROUP, 5001) as sender,
        Net() as net,
    ):
        net.link(lab.relay, "vpn0", lab.receiver, "v0")
        lab.receiver.address("v0", "10.7.0.2/24")
        lab.relay.address("vpn0", "10.7.0.1/24")
        with lab.receive("10.7.0.2", 7000, "v0") as near, lab.receive("10.7.0.2", 7000) as far:
            wait_until(lambda: sends_from(sender, near) == "10.7.0.1", FOLLOW_S)
            lab.relay.ip("route", "add", "default", "via", "10.2.0.2", "table", "100")
            lab.relay.ip("rule", "add", "to", "10.7.0.2", "table", "100")
            wait_until(lambda: sends_from(sender, far) == "10.2.0.1", FOLLOW_S)
            lab.relay.ip("rule", "del", "to", "10.7.0.2", "table", "100")
            wait_until(lambda: sends_from(sender, near) == "10.7.0.1", FOLLOW_S)
        output = running.stats().rules[0].outputs[0]
        assert output.sent == output.wanted


def test_an_address_is_deprecated_and_removed(lab: Lab, where: Where) -> None:
    """To a host by routing and to a group by its interface: the next best address is taken."""
    lab.relay.ip("route", "add", HOSTS["v6"], "via", "fd02::2")
    rule = f"{GROUP}%in0:5001 to [{HOSTS['v6']}]:7000 ff15::110:2%out0:6001"
    with (
        relay(lab, where, rule) as running,
        lab.sender(GROUP, 5001) as sender,
        lab.receive(HOSTS["v6"], 7000) as host,
        lab.receive("ff15::110:2", 6001) as group,
    ):

        def comes_from(address: str) -> bool:
            group.forget()
            return sends_from(sender, host) == address and {
                source for source, _ in (group.wait_for(1) and group.sources)
            } == {address}

        assert comes_from("fd02::1")
        lab.relay.address("out0", "fd02::5/64")
        change = ("addr", "change", "fd02::1/64", "dev", "out0")
        lab.relay.ip(*change, "preferred_lft", "0", "valid_lft", "7200")
        wait_until(lambda: comes_from("fd02::5"), FOLLOW_S)
        lab.relay.ip(*change, "preferred_lft", "forever", "valid_lft", "forever")
        lab.relay.ip("addr", "del", "fd02::5/64", "dev", "out0")
        wait_until(lambda: comes_from("fd02::1"), FOLLOW_S)
        assert all(output.sent > 0 for output in running.stats().rules[0].outputs)


def test_a_route_that_is_removed_and_restored(lab: Lab, where: Where) -> None:
    """Without one the state says so and copies are counted; with one it resumes at once."""
    host = HOSTS["v4"]
    lab.relay.ip("route", "add", host, "via", "10.2.0.2")
    with (
        relay(lab, where, f"{GROUP}%in0:5001 to {host}:7000") as running,
        lab.sender(GROUP, 5001) as sender,
        lab.receive(host, 7000, "d1") as receiver,
    ):
        lab.relay.ip("route", "del", host)
        wait_until(lambda: f"no route to {host}" in running.stats().rules[0].state, FOLLOW_S)
        sender.send([b"lost"])
        wait_until(lambda: sum(running.stats().rules[0].outputs[0].dropped.values()) == 1)
        lab.relay.ip("route", "add", host, "via", "10.3.0.2")
        wait_until(lambda: sends_from(sender, receiver) == "10.3.0.1", FOLLOW_S)


@pytest.mark.parametrize("neighbour", ["10.3.0.2", "fd03::2"])
@pytest.mark.parametrize("is_gateway", [False, True], ids=["host", "gateway"])
def test_a_neighbour_is_known_before_the_first_copy(
    lab: Lab, where: Where, neighbour: str, *, is_gateway: bool
) -> None:
    """A host or router is looked for when the rule is added, and again when it is forgotten."""
    host = neighbour
    if is_gateway:
        host = HOSTS["v6" if ":" in neighbour else "v4"]
        lab.relay.ip("route", "add", host, "via", neighbour)

    def is_known() -> bool:
        return "lladdr" in lab.relay.ip("neigh", "show", neighbour, "dev", "out1")

    assert not is_known()
    with relay(lab, where, f"{GROUP}%in0:5001 to {written(host)}:7000"):
        wait_until(is_known, FOLLOW_S)
        lab.relay.ip("neigh", "del", neighbour, "dev", "out1")
        wait_until(is_known, FOLLOW_S)


def test_a_neighbour_is_looked_for_when_its_link_is_back(lab: Lab, where: Where) -> None:
    """The kernel has looked in vain while there was no carrier, and would drop the next burst."""
    host = "10.3.0.2"
    lab.relay.sysctl("net.ipv4.neigh.out1.retrans_time_ms", 100)

    def shows(word: str) -> bool:
        return word in lab.relay.ip("neigh", "show", host, "dev", "out1")

    with relay(lab, where, f"{GROUP}%in0:5001 to {host}:7000"):
        wait_until(lambda: shows("lladdr"), FOLLOW_S)
        lab.receiver.ip("link", "set", "d1", "down")
        wait_until(lambda: shows("FAILED"))
        lab.receiver.ip("link", "set", "d1", "up")
        wait_until(lambda: shows("lladdr"), FOLLOW_S)


def test_a_full_routing_table_costs_next_to_nothing(lab: Lab, tmp_path: Path) -> None:
    """Twenty thousand routes come and go: the worker hardly notices, and still follows."""
    routes = [f"198.{high}.{low}.0/24" for high in range(80) for low in range(256)]
    files = {}
    for verb in ("add", "del"):
        files[verb] = tmp_path / verb
        lines = (f"route {verb} {route} via 10.2.0.2\n" for route in routes)
        files[verb].write_text("".join(lines))
    host = HOSTS["v4"]
    lab.relay.ip("route", "add", "default", "via", "10.2.0.2")
    with (
        serving(lab.relay) as daemon,
        daemon.client() as client,
        lab.sender(GROUP, 5001) as sender,
        lab.receive(host, 7000, "d1") as receiver,
    ):
        client.add_rule(f"{GROUP}%in0:5001 to {host}:7000")
        (worker,) = daemon.workers
        memory, cpu = memory_kib(worker), cpu_s(worker)
        for file in files.values():
            lab.relay.run("ip", "-batch", str(file))
        lab.relay.ip("route", "add", host, "via", "10.3.0.2")
        wait_until(lambda: sends_from(sender, receiver) == "10.3.0.1", FOLLOW_S)
        assert cpu_s(worker) - cpu < 0.2
        assert memory_kib(worker) - memory < 2048

"""Every method of both clients: its request and its result."""

import inspect
import json
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.line_proxy import LineProxy, answering
from tests.support.strategies import KERNEL_INTERFACES

import mcr
from mcr import _native
from mcr.client import connect, methods
from mcr.daemon.control.rules.entries import read_entry
from mcr.rules.objects import object_from_rule

A = "239.1.1.1%lo:5001,name=feed-a to 127.0.0.1:7001"
B = "239.1.1.2%lo:5001 to 239.2.0.2%lo:6001,ttl=8 127.0.0.1:7001"
SERVER = f"mcr {version('mcr-relay')}"
Patch = pytest.MonkeyPatch


def read_object(given: dict[str, Any]) -> mcr.Rule:
    """Parse an object of the protocol as the daemon does."""
    return read_entry(given, enabled=True).rule


def test_the_life_of_a_rule(proxied: mcr.Client, proxy: LineProxy, revision: int) -> None:
    """Added, listed, returned, disabled, enabled, removed: each result is a value."""
    client = proxied
    added = client.add_rules([A, mcr.Rule.parse(B)])
    assert added.revision == revision + 1
    assert not added.dry_run
    first, second = (mcr.Rule.parse(text) for text in (A, B))
    assert [each.id for each in added.added] == [first.id, second.id]
    assert added.added[1].outputs == (
        mcr.RuleOutputInfo("239.2.0.2%lo:6001,ttl=8", 8, None),
        mcr.RuleOutputInfo("127.0.0.1:7001", 64, None),
    )
    rules = client.rules()
    assert (rules.revision, len(rules)) == (revision + 1, 2)
    assert [each.rule for each in rules] == [str(first), str(second)]
    assert client.rules(["feed-a"]).rules == rules.rules[:1]
    assert client.rule(second) == rules.rules[1]
    assert client.disable_rule("feed-a").changed == (first.id,)
    assert client.rule("feed-a").state == "disabled"
    assert client.enable_rules([first.id]).revision == revision + 3
    assert client.remove_rule(rules.rules[0]).removed == (first.id,)
    assert client.remove_rules([second.id]).removed == (second.id,)
    assert client.rules().rules == ()
    assert proxy.methods.count("hello") == 1


def test_all_values(client: mcr.Client, control: FakeSupervisor, revision: int) -> None:
    """Every result has its type."""
    (rule,) = client.add_rule(A).added
    control.workers[0].counts, control.workers[0].losses = {rule.id: 10}, {rule.id: 1}
    pong = client.ping()
    assert pong == mcr.Pong(revision + 1, mcr.WorkerCount(1, 1), pong.uptime_s)
    assert 0 < pong.uptime_s < 3600
    hello = client.hello()
    assert (hello.server, hello.ingress, hello.workers) == (SERVER, "udp", 1)
    assert hello.pid == control.process.pid
    stats = client.stats()
    assert isinstance(stats, mcr.DaemonStats)
    assert stats.revision == revision + 1
    dropped = {why: int(why == "no_rule") for why in stats.totals.dropped}
    assert stats.totals == mcr.Totals(11, 10, dropped, 10, 9, 1, 0, 1100)
    assert stats.rules[0].outputs[0].lost == 1
    assert stats.imbalances() == ()
    assert stats.rates_since(stats)[stats.rules[0].id].matched_pps == 0
    assert client.stats(["feed-a"]).rules == stats.rules
    assert client.resolve_hosts() == ()
    assert client.log_levels().level == "info"
    assert client.set_log_level("debug", "rules").facilities["rules"] == "debug"
    assert client.set_log_level(None, "rules").facilities["rules"] is None
    assert client.set_log_level("error").level == "error"


def test_a_worker_that_died(client: mcr.Client, control: FakeSupervisor) -> None:
    """The time and cause, the duration of the outage, and the missed frames."""
    client.stats()
    began_s = time.time()
    control.kill_worker(0, missed_frames=40)

    def missed() -> bool:
        client.stats()
        death = client.workers()[0].last_death
        return death is not None and death.at > began_s and death.missed_frames is not None

    wait_until(missed)
    (worker,) = client.workers()
    assert (worker.number, worker.pid, worker.state) == (0, control.workers[0].pid, "running")
    assert (worker.cpu, worker.deaths, worker.restart_in_ms) == (None, 1, None)
    death = worker.last_death
    assert death is not None
    assert began_s <= death.at <= time.time()
    assert 0 <= (death.outage_ms or 0) < 10_000
    assert (death.cause, death.missed_frames) == ("killed by SIGKILL", 40)


def test_the_interfaces_of_this_host(client: mcr.Client) -> None:
    """As the kernel reports them."""
    told, known = client.interfaces(), _native.interfaces()
    assert [each.name for each in told] == [each.name for each in known]
    loopback, expected = (next(x for x in each if x.name == "lo") for each in (told, known))
    for field in ("index", "up", "carrier", "multicast", "loopback", "mtu", "gro"):
        assert getattr(loopback, field) == getattr(expected, field), field
    assert loopback.altnames == tuple(expected.altnames)
    assert loopback.addresses == tuple(expected.addresses)
    assert ip_address("127.0.0.1") in loopback.addresses


def test_a_host_name_with_another_address(proxied: mcr.Client, proxy: LineProxy) -> None:
    """The old and the new addresses."""
    change = {"host": "studio.example", "before": ["192.0.2.7"], "after": ["192.0.2.8"]}
    result = {"changes": [{**change, "error": None}], "revision": 3}
    proxy.script = answering({"hosts.resolve": result}.get)
    (moved,) = proxied.resolve_hosts()
    assert str(moved) == "the host 'studio.example' now resolves to 192.0.2.8 instead of 192.0.2.7"


def test_a_transaction(client: mcr.Client, revision: int) -> None:
    """The result of `rules` can be changed and sent back; an outdated revision is refused."""
    client.add_rules([A, B])
    client.disable_rule("feed-a")
    before = client.rules()
    trial = client.replace_rules(before.rules[:1], dry_run=True)
    assert (trial.dry_run, trial.revision) == (True, revision + 2)
    assert trial.removed == (before.rules[1].id,)
    assert client.rules() == before
    done = client.replace_rules(before.rules[:1], expected_revision=before.revision)
    assert (done.revision, done.kept) == (revision + 3, (before.rules[0].id,))
    assert not client.rule("feed-a").enabled, "a rule that was disabled stays so"
    with pytest.raises(mcr.ConflictError) as refused:
        client.add_rule(B, expected_revision=before.revision)
    assert (refused.value.expected, refused.value.actual) == (revision + 2, revision + 3)


@pytest.mark.parametrize("name", [each for each in vars(mcr.Client) if not each.startswith("_")])
def test_both_clients_have_the_same_methods(name: str) -> None:
    """With the same arguments, results and documentation."""
    one, other = getattr(mcr.Client, name), getattr(mcr.AsyncClient, name)
    assert inspect.signature(one).parameters.keys() == inspect.signature(other).parameters.keys()
    assert one.__doc__
    if hasattr(methods, name):
        assert inspect.signature(one) == inspect.signature(other)
        assert one.__doc__ == other.__doc__
        assert one.__annotations__["return"].__module__ != methods.__name__


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_invalid_time_limits(timeout_s: float) -> None:
    """Both clients refuse them at once."""
    for kind in (mcr.Client, mcr.AsyncClient):
        with pytest.raises(ValueError, match="timeout_s"):
            kind("x", timeout_s=timeout_s)


def test_a_closed_client(client: mcr.Client) -> None:
    """`close` is idempotent, and later requests fail."""
    client.ping()
    client.close()
    client.close()
    with pytest.raises(mcr.McrError, match="the client is closed"):
        client.ping()


def test_many_threads(proxy: LineProxy) -> None:
    """They take turns on one connection, and each gets its own answer."""
    with mcr.Client(proxy.path) as client:
        client.add_rules([A, B])
        ids = [rule.id for rule in client.rules()]
        wrong: list[str] = []

        def ask(which: str) -> None:
            wrong.extend(which for _ in range(50) if client.rule(which).id != which)

        threads = [threading.Thread(target=ask, args=(each,)) for each in ids * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert proxy.methods.count("hello") == 1


@given(KERNEL_INTERFACES, KERNEL_INTERFACES)
def test_every_interface_name_can_be_sent(one: str, other: str) -> None:
    """As text where possible, otherwise as an equivalent object."""
    rule = mcr.Rule(
        mcr.Input("239.1.0.0/30", range(5000, 5003), interface=one, sources=["10.0.0.5"], vlan=7),
        [mcr.Output("239.2.0.0/30", range(6000, 6003), interface=other, ttl="keep", loop=False)],
        name="x",
    )
    (sent,) = methods.add_rules([rule]).params["rules"]
    is_text = isinstance(sent, str)
    assert (mcr.Rule.parse(sent) if is_text else read_object(sent)) == rule
    assert is_text or set(one + other) & set(",+=@%:[]")


@given(st.sampled_from([None, True, False]), st.integers(0, 255), st.sampled_from([0, 46, "keep"]))
def test_objects_hold_every_option(
    loop: bool | None, ttl: int, dscp: int | Literal["keep"]
) -> None:
    """All values that differ from the defaults are sent."""
    output = mcr.Output(
        "192.0.2.7",
        7000,
        interface="a=b",
        ttl=ttl or None,
        dscp=dscp,
        source="192.0.2.1",
        source_port="keep",
        loop=loop,
        priority=None if dscp == "keep" else 3,
    )
    rule = mcr.Rule(mcr.Input("239.1.1.1", 5001, interface="lo", join="each"), [output])
    assert read_object(json.loads(json.dumps(object_from_rule(rule)))) == rule


def test_a_lone_rule_is_no_sequence() -> None:
    """A string would otherwise be taken for a sequence of rules."""
    for call in (methods.add_rules, methods.replace_rules, methods.remove_rules, methods.stats):
        with pytest.raises(mcr.ArgumentError, match=r"write \[rule\] for a single one"):
            call(A)


def test_a_request_that_is_too_long(client: mcr.Client) -> None:
    """The client refuses it; the daemon would close the connection."""
    with pytest.raises(mcr.McrError, match="the daemon accepts 16777216: send fewer"):
        client.add_rule("x" * (17 << 20))
    assert client.ping()


def test_only_root_may_listen_at_the_path_of_root(proxy: LineProxy, monkeypatch: Patch) -> None:
    """At a default path nothing is sent to a process of another user."""
    with mcr.Client(proxy.path) as client:
        monkeypatch.setattr(connect, "trusted_users", lambda _: {12_345})
        with pytest.raises(mcr.RightsError, match="belongs to the user"):
            client.ping()
        assert proxy.methods == []


def test_trusted_users(monkeypatch: Patch, tmp_path: Path) -> None:
    """Root at /run/mcr; also the user at their default path; anyone at a named path."""
    assert connect.trusted_users(Path("/run/mcr/mcr.sock")) == {0}
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert connect.trusted_users(tmp_path / "mcr/mcr.sock") == {0, 1000}
    assert connect.trusted_users(tmp_path / "other.sock") is None
    assert mcr.Client().path == tmp_path / "mcr/mcr.sock"


def test_the_blocking_client_loads_no_asyncio(path: Path) -> None:
    """Nor other modules that it does not need."""
    code = f"""
import sys, mcr
try: mcr.Client({str(path)!r}).ping()
except mcr.DaemonError: pass
sys.exit(any(name in sys.modules for name in ("asyncio", "rich", "typer")))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)

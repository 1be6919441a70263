"""The daemon as a user meets it: start, add a rule, relay, shut down."""

import ctypes
import json
import os
import signal
import subprocess
from pathlib import Path

from tests.support.processes import is_running

import mcr

from .checks import DEADLINE_S, assert_balanced
from .daemons import MCR, serving
from .frames import Flow, Injector, udp_frame
from .lab import Lab
from .relays import Ingress
from .traffic import payloads

_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_WALL = 0x4000_0000
RULE = "239.1.90.1%in0:5001 to 239.2.90.1%out0:6001 239.2.90.2%out1:6001"


def test_a_rule_added_to_a_running_daemon_relays(lab: Lab, ingress: Ingress) -> None:
    """Byte for byte to each output, counted; at the end no process and no socket is left."""
    sent = payloads(500)
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        lab.receive("239.2.90.1", 6001) as first,
        lab.receive("239.2.90.2", 6001, "d1") as second,
        lab.sender("239.1.90.1", 5001) as sender,
    ):
        added = client.add_rule(RULE)
        sender.send(sent)
        first.expect(sent)
        second.expect(sent)
        stats = client.stats()
        assert_balanced(stats)
        assert stats.rules[0].matched == len(sent)
        assert [rule.id for rule in client.rules().rules] == [rule.id for rule in added.added]
        pids = daemon.processes
        assert daemon.end() == 0
        assert not any(is_running(pid) for pid in pids)
        assert not daemon.socket.exists()


def test_the_rules_can_come_from_a_program_without_a_daemon(lab: Lab) -> None:
    """The same rule runs in a separate program beside the daemon."""
    with serving(lab.relay) as daemon, lab.relay, mcr.Relay(RULE) as relay:
        assert [rule.id for rule in relay.rules] != []
        with daemon.client() as client:
            assert client.rules().rules == ()


def test_rings_of_other_processes_do_not_count(lab: Lab) -> None:
    """The kernel charges rings to their user, except those created by root."""
    with serving(lab.relay, before=("prlimit", "--memlock=65536")) as daemon:
        assert len(daemon.workers) == 1


def test_a_rule_whose_interface_is_missing_says_so_at_once(lab: Lab, ingress: Ingress) -> None:
    """In the result of adding it, as an event after that, and in lists."""
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        client.events(["rule"]) as events,
    ):
        (added,) = client.add_rule("239.1.90.1%none:5001 to 239.2.90.1%out0:6001").added
        assert added.state == "unresolved: there is no interface none"
        told = [events.read(DEADLINE_S), events.read(DEADLINE_S)]
        assert [event and event.event for event in told] == ["added", "waiting"]
        assert [rule.state for rule in client.rules()] == [added.state]
        trial = client.add_rule("239.1.90.2%none:5001 to 239.2.90.1%out0:6001", dry_run=True)
        assert trial.added[0].state == "not added (dry run)"


def test_an_invalid_configuration_ends_the_start_at_once(lab: Lab, tmp_path: Path) -> None:
    """The problem is logged once, with the correct form; the start is not retried."""
    config = tmp_path / "rules.toml"
    config.write_text("239.1.90.1%in0:5001 to 239.2.90.1%out0:6001\n")
    words = ["serve", "--socket", str(tmp_path / "mcr.sock"), "--config", str(config)]
    done = subprocess.run(
        lab.relay.command(MCR, *words), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("is neither TOML nor JSON") == 1
    assert 'write rules = ["A to B", "C to D"]' in done.stderr
    assert done.stderr.startswith(f"mcr: {config}:1: ")


def test_levels_and_format_of_the_log(lab: Lab) -> None:
    """Of each part from the start, in all processes, with the records of a worker's restart."""
    levels = "error,worker=debug,supervisor=info"
    with serving(lab.relay, "--log-level", levels, "--log-format", "json") as daemon:
        with daemon.client() as client:
            assert client.log_levels().facilities["worker"] == "debug"
            client.add_rule(RULE)
            (worker,) = client.workers()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            daemon.wait_for("relays again")
        records = [json.loads(line) for line in daemon.read_log().splitlines()]
        assert {each.get("facility") for each in records} <= {"worker", "supervisor", None}
        (restored,) = (each for each in records if "relays again" in each["message"])
        assert (restored["level"], restored["facility"]) == ("info", "worker")


def test_a_subscriber_that_disconnects_is_not_logged(lab: Lab) -> None:
    """Even in the middle of many events."""
    with serving(lab.relay, "--log-level", "error") as daemon, daemon.client() as client:
        for _ in range(20):
            stream = client.events(["rule"])
            client.add_rule(RULE)
            stream.close()
            for number in range(8):
                turn = client.disable_rule if number % 2 == 0 else client.enable_rule
                turn(client.rules().rules[0])
            client.remove_rule(client.rules().rules[0])
        assert "exception" not in daemon.read_log()


def test_bad_checksums_are_relayed_on_request(lab: Lab) -> None:
    """The option reaches the workers; copies have valid checksums."""
    flow = Flow("10.1.0.2", "239.1.90.1", 5001)
    bodies = [b"damaged", b"fine"]
    with (
        serving(lab.relay, "--ingress", "packet", "--accept-bad-checksums") as daemon,
        daemon.client() as client,
        lab.receive("239.2.90.1", 6001) as receiver,
        Injector(lab.source, "s0") as injector,
    ):
        client.add_rule("239.1.90.1%in0:5001 to 239.2.90.1%out0:6001")
        injector.send(udp_frame(flow, bodies[0], checksum=0x1234), udp_frame(flow, bodies[1]))
        receiver.expect(bodies)
        stats = client.stats()
        assert_balanced(stats)
        assert stats.totals.matched == len(bodies)


def test_a_worker_whose_engine_hangs_is_restarted(lab: Lab) -> None:
    """Its other threads run on, but send no more heartbeats."""
    libc = ctypes.CDLL(None, use_errno=True)
    with serving(lab.relay) as daemon, daemon.client() as client:
        worker = client.workers()[0]
        (engine,) = (
            task
            for task in Path(f"/proc/{worker.pid}/task").iterdir()
            if (task / "comm").read_text() == "mcr-engine-0\n"
        )
        tid = ctypes.c_long(int(engine.name))
        for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
            assert libc.ptrace(request, tid, None, None) == 0, os.strerror(ctypes.get_errno())
        daemon.wait_for("worker 0 is restarted")
        while not os.WIFSIGNALED(os.waitpid(tid.value, _WALL)[1]):
            pass  # the stop; a tracer delays the end of the process until it knows of both
        daemon.wait_for("relays again")
        death = client.workers()[0].last_death
        assert death is not None
        assert death.cause.startswith("did not answer for 3 s")


def test_processes_have_names(lab: Lab) -> None:
    """As ps shows them."""
    with serving(lab.relay, "--workers", "2") as daemon:
        for file in ("comm", "cmdline"):
            texts = [Path(f"/proc/{pid}/{file}").read_text() for pid in daemon.processes]
            names = [text.rstrip("\0\n") for text in texts]
            assert names == ["mcr: supervisor", "mcr: control", "mcr: worker 0", "mcr: worker 1"]

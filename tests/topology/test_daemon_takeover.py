"""A daemon that is replaced by another one while traffic flows: nothing is lost, all is counted."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr
from mcr.daemon.account import target_account
from mcr.daemon.settings import DaemonSettings
from mcr.daemon.supervisor.handover.endpoint import endpoint_path
from mcr.relay.settings import BUFFER_BYTES

from .bulk import Bulk, bulk_flow
from .checks import PROCESS_S, assert_balanced, settle
from .daemons import MCR, Daemon, serving
from .deaths import lost
from .lab import Lab
from .namespaces import Namespace
from .new_version import STEPS
from .relays import Ingress
from .traffic import PacedFlow

RATE_PPS = 50_000
STEADY_PPS = 2000
INGRESSES: tuple[Ingress, ...] = ("packet", "udp")
V4 = "239.1.95.1%in0:5001,name=four to 239.2.95.1%out0:6001"
V6 = "[ff3e::95:1]%in0:5001,name=six to [ff3e::95:2]%out0:6001"
ENDS = {
    4: (("239.1.95.1", 5001), ("239.2.95.1", 6001)),
    6: (("ff3e::95:1", 5001), ("ff3e::95:2", 6001)),
}


@contextlib.contextmanager
def successor(lab: Lab, old: Daemon, *arguments: str) -> Iterator[Daemon]:
    """Another daemon that has taken over; the old one has ended well."""
    with serving(lab.relay, "--takeover", *arguments, socket=old.socket) as new:
        assert old.process.wait(PROCESS_S) == 0, old.read_log()
        yield new


class Watch(threading.Thread):
    """Reads counters during a takeover, by whichever daemon answers."""

    def __init__(self, daemon: Daemon, rules: int = 2) -> None:
        """Begin at once."""
        super().__init__(daemon=True)
        self._rules = rules
        self._daemon, self._over = daemon, threading.Event()
        self.faults: list[str] = []
        self.readings = 0
        self.start()

    def run(self) -> None:
        """Check that every reading balances and that none goes back."""
        before = [0] * self._rules
        while not self._over.is_set():
            try:
                with self._daemon.client() as client:
                    stats = client.stats()
                assert_balanced(stats)
                now = [rule.matched for rule in stats.rules[: self._rules]]
                if any(one < other for one, other in zip(now, before, strict=True)):
                    self.faults.append(f"{before} became {now}")
                before, self.readings = now, self.readings + 1
            except (mcr.DaemonError, OSError):
                pass  # it is being replaced
            except AssertionError as error:
                self.faults.append(str(error))
            time.sleep(0.02)

    def end(self) -> None:
        """Stop, and fail if a reading was wrong."""
        self._over.set()
        self.join(10)
        assert not self.faults, self.faults
        assert self.readings > 0


@contextlib.contextmanager
def flowing(lab: Lab, batch: int) -> Iterator[list[Bulk]]:
    """Two flows, one of each family; afterwards the list has what became of them."""
    found: list[Bulk] = []
    with (
        bulk_flow(lab, *ENDS[4], rate_pps=RATE_PPS // 2, batch=batch) as four,
        bulk_flow(lab, *ENDS[6], rate_pps=RATE_PPS // 2, batch=batch) as six,
    ):
        time.sleep(0.3)
        yield found
        time.sleep(0.3)
        found += [four.end(), six.end()]


def source_ports(lab: Lab) -> set[int]:
    """The local ports of the sockets that send to the outputs."""
    text = lab.relay.proc_net("udp") + lab.relay.proc_net("udp6")
    rows = [line.split() for line in text.splitlines() if ":1771 " in line]
    return {int(row[1].split(":")[1], 16) for row in rows if row[2].endswith(":1771")}


def known(client: mcr.Client) -> tuple[int, list[tuple[str, bool]]]:
    """The revision and the rules."""
    rules = client.rules()
    return rules.revision, [(rule.id, rule.enabled) for rule in rules]


def rules_of(daemon: Daemon) -> tuple[int, list[tuple[str, bool]]]:
    """The same of whichever daemon answers."""
    with daemon.client() as client:
        return known(client)


@pytest.mark.alone
@pytest.mark.parametrize("workers", [1, 2])
def test_a_takeover_loses_nothing(lab: Lab, ingress: Ingress, gro: bool, workers: int) -> None:
    """Datagrams wait in the sockets, which stay the same; rules and counters continue."""
    arguments = ("--ingress", ingress, "--workers", str(workers))
    batch = 20 if gro else 1
    with serving(lab.relay, *arguments) as old:
        with old.client() as client:
            client.add_rules([V4, V6])
            before = known(client)
        ports = source_ports(lab)
        with contextlib.ExitStack() as stack:
            watch = Watch(old)
            with flowing(lab, batch) as found:
                new = stack.enter_context(successor(lab, old, *arguments))
            watch.end()
            for bulk in found:
                print(bulk)
                bulk.assert_whole()
            with new.client() as client:
                assert known(client) == before
                sent = [bulk.sent for bulk in found]
                settle(client, lambda stats: [rule.matched for rule in stats.rules] == sent)
                stats = client.stats()
                assert [rule.outputs[0].sent for rule in stats.rules] == sent
                assert sum(each.kernel_dropped_frames for each in stats.interfaces) == 0
            assert source_ports(lab) == ports
            assert new.end() == 0
            assert not new.socket.exists()
            assert not any(new.socket.parent.iterdir())


def settings_of(daemon: Daemon, ingress: Ingress, workers: int = 1) -> str:
    """What `mcr serve --takeover` would tell its supervisor."""
    return DaemonSettings(
        socket=daemon.socket,
        ingress="packet" if ingress == "packet" else "udp",
        workers=workers,
        buffer_bytes=BUFFER_BYTES,
        account=target_account(None),
        takeover=True,
    ).to_text()


@contextlib.contextmanager
def new_version(lab: Lab, mode: str, settings: str) -> Iterator[subprocess.Popen[str]]:
    """A daemon of another version; see `new_version`."""
    process = subprocess.Popen(
        lab.relay.command(sys.executable, "-m", "tests.topology.new_version", mode, settings),
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def failure(process: subprocess.Popen[str]) -> str:
    """Wait until the process has failed; return what it said."""
    _, said = process.communicate(timeout=PROCESS_S)
    assert process.returncode != 0
    return said


@contextlib.contextmanager
def counted_flow(lab: Lab, daemon: Daemon, most_lost: int = 0) -> Iterator[None]:
    """A steady flow through a daemon, of which at most so much is lost in whatever happens."""
    with lab.receive("239.2.95.1", 6001) as receiver, lab.sender("239.1.95.1", 5001) as sender:
        with daemon.client() as client:
            client.add_rule(V4)
        watch = Watch(daemon, rules=1)
        with PacedFlow(sender, STEADY_PPS) as flow:
            flow.advance(STEADY_PPS // 5)
            yield
            flow.advance(STEADY_PPS // 2)
        receiver.wait_for(len(flow.sent) - most_lost)
        receiver.wait_for_payload(flow.sent[-1])
        assert lost(flow.sent, receiver) <= most_lost
        watch.end()
        with daemon.client() as client:
            stats = settle(client, lambda stats: not stats.stale_workers)
            arrived = len(receiver.collected)
            # What a killed worker has sent in its last turn is not counted.
            assert arrived - most_lost <= stats.rules[0].outputs[0].sent <= arrived


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("worker-dies", "worker 0 ended with code 3"),
        ("control-dies", "control ended with code 3"),
        ("worker-dies-late", "(worker 0 ended with code 71|control ended with code 1)"),
        ("other-records", "its version describes sockets in another way; restart it instead"),
    ],
)
def test_a_version_that_fails_leaves_the_old_one(
    lab: Lab, ingress: Ingress, mode: str, reason: str
) -> None:
    """The old daemon relays on, with the same rules; what was in the sockets is not lost."""
    lab.set_offload(on=True)
    with serving(lab.relay, "--ingress", ingress) as old, counted_flow(lab, old):
        before = rules_of(old)
        with new_version(lab, mode, settings_of(old, ingress)) as process:
            said = failure(process)
            assert re.search(f"cannot take over from process {old.supervisor}: {reason}", said), (
                said
            )
        # It can be replaced, and changed, as before.
        wait_until(lambda: rules_of(old) == before)
        assert old.process.poll() is None
        with old.client() as other:
            other.add_rule(V6)
            other.remove_rules(["six"])


@pytest.mark.parametrize(("ingress", "step"), [*zip(INGRESSES * 2, STEPS, strict=True)])
def test_a_new_supervisor_that_is_killed_leaves_the_old_one(
    lab: Lab, ingress: Ingress, step: str
) -> None:
    """At whatever step: its workers die with it, and the old daemon starts its own again."""
    most_lost = STEADY_PPS // 10 if step == "commit" else 0  # its worker had datagrams in hand
    lab.set_offload(on=True)
    with (
        serving(lab.relay, "--ingress", ingress) as old,
        counted_flow(lab, old, most_lost),
        new_version(lab, f"dies@{step}", settings_of(old, ingress)) as process,
    ):
        before = rules_of(old)
        failure(process)
        wait_until(lambda: answers(old), 15)
        assert rules_of(old) == before
        assert old.process.poll() is None


@pytest.mark.parametrize(("ingress", "step"), [*zip(INGRESSES[::-1] * 2, STEPS, strict=True)])
def test_a_new_version_goes_on_without_a_killed_supervisor(
    lab: Lab, ingress: Ingress, step: str
) -> None:
    """At whatever step: it has the sockets and the rules. The old worker dies with datagrams."""
    most_lost = STEADY_PPS // 10 if step in {"offer", "standby"} else 0
    lab.set_offload(on=True)
    with (
        serving(lab.relay, "--ingress", ingress) as old,
        contextlib.ExitStack() as stack,
        counted_flow(lab, old, most_lost),
    ):
        before = rules_of(old)
        stack.enter_context(new_version(lab, f"kills@{step}", settings_of(old, ingress)))
        wait_until(lambda: old.process.poll() is not None, PROCESS_S)
        wait_until(lambda: answers(old), PROCESS_S)
        assert rules_of(old) == before


def answers(daemon: Daemon) -> bool:
    """Whether a daemon answers at the socket."""
    try:
        with daemon.client() as client:
            return all(each.state == "running" for each in client.workers())
    except (mcr.DaemonError, OSError):
        return False


@pytest.mark.alone
def test_a_version_with_other_pages_continues_the_counters(lab: Lab, ingress: Ingress) -> None:
    """They are carried over by name, so that a layout may differ."""
    lab.set_offload(on=True)
    with (
        serving(lab.relay, "--ingress", ingress, "--workers", "2") as old,
        contextlib.ExitStack() as stack,
        counted_flow(lab, old),
    ):
        settings = settings_of(old, ingress, 2)
        stack.enter_context(new_version(lab, "other-layout", settings))
        assert old.process.wait(PROCESS_S) == 0
        wait_until(lambda: answers(old), PROCESS_S)


@pytest.mark.parametrize("step", ["standby", "go"])
def test_an_old_daemon_that_is_told_to_end_does_so(lab: Lab, step: str) -> None:
    """Whatever the step, SIGTERM ends it with its report; the new version gives up."""
    with serving(lab.relay, "--ingress", "udp") as old:
        with new_version(lab, f"ends@{step}", settings_of(old, "udp")) as process:
            said = failure(process)
            assert "it is ending" in said or step == "go", said  # killed, as it may read sockets
        assert old.process.wait(PROCESS_S) == 0
        assert not any(old.socket.parent.iterdir())


def test_what_differs_is_refused(lab: Lab) -> None:
    """With a sentence that says what to do."""
    with serving(lab.relay, "--ingress", "udp") as old:
        for arguments, reason in (
            (("--ingress", "packet"), "it has --ingress udp; use the same one"),
            (("--ingress", "udp", "--workers", "2"), "it has --workers 1; use the same number"),
        ):
            said = refused(lab.relay, old.socket, *arguments)
            assert f"cannot take over from process {old.supervisor}: {reason}" in said, said
        said = refused(lab.source, old.socket, "--ingress", "udp")
        assert "it runs in another network namespace; start this one there" in said, said
        said = refused(lab.relay, old.socket.with_name("other.sock"), "--ingress", "udp")
        assert "no daemon that can be replaced serves" in said, said
        assert old.process.poll() is None


def refused(namespace: Namespace, socket: Path, *arguments: str) -> str:
    """What a daemon says that cannot take over."""
    command = [MCR, "serve", "--takeover", "--socket", str(socket), *arguments]
    ended = subprocess.run(
        namespace.command(*command), capture_output=True, text=True, timeout=PROCESS_S, check=False
    )
    assert ended.returncode == 1, ended
    return ended.stderr


def test_nobody_else_can_take_over(lab: Lab) -> None:
    """The socket is the user's own, and the peer's user is checked all the same."""
    with serving(lab.relay, "--ingress", "udp") as old:
        path = endpoint_path(old.socket)
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o666)
        child = os.fork()
        if child == 0:
            os._exit(is_disconnected(path))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert "handing over" not in old.read_log()


def is_disconnected(path: Path) -> bool:
    """Whether user nobody is disconnected at once."""
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
            end.settimeout(10)
            end.connect(str(path))
            return end.recv(1000) == b""
    except OSError:
        return False


@pytest.mark.parametrize("message", [b"x", bytes(560), b"mcr-take" + bytes(552), bytes(60_000)])
def test_a_message_of_another_form_changes_nothing(lab: Lab, message: bytes) -> None:
    """The connection ends, and the daemon can be taken over by the next one."""
    with serving(lab.relay, "--ingress", "udp") as old:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
                end.settimeout(10)
                end.connect(str(endpoint_path(old.socket)))
                end.send(message)
                assert end.recv(1000) == b""
        with successor(lab, old, "--ingress", "udp") as new:
            assert new.end() == 0


def test_a_change_during_a_takeover_is_made_or_refused(lab: Lab) -> None:
    """A client that gets its answer can rely on it."""
    with serving(lab.relay, "--ingress", "udp") as old:
        made: set[str] = set()
        over = threading.Event()

        def add_rules() -> None:
            for number in range(1, 200):
                if over.is_set():
                    return
                rule = f"239.1.96.{number}%in0:5001,name=r{number} to 239.2.96.1%out0:6001"
                with contextlib.suppress(mcr.McrError, OSError), old.client() as client:
                    client.add_rule(rule)
                    made.add(f"r{number}")
                time.sleep(0.02)

        adding = threading.Thread(target=add_rules)
        adding.start()
        try:
            with successor(lab, old, "--ingress", "udp") as new:
                count = len(made)
                wait_until(lambda: len(made) > count)
                over.set()
                adding.join(20)
                with new.client() as client:
                    assert made <= {rule.name for rule in client.rules()}
        finally:
            over.set()
            adding.join(20)


def test_the_service_manager_learns_of_the_new_process(lab: Lab, tmp_path: Path) -> None:
    """By MAINPID of the old one, which it trusts, and READY of the new one; again and again."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        notified.settimeout(PROCESS_S)
        before = ("env", f"NOTIFY_SOCKET={path}")
        with serving(lab.relay, "--ingress", "udp", before=before) as first:
            assert notified.recv(100) == b"READY=1"
            with (
                successor(lab, first, "--ingress", "udp") as second,
                successor(lab, second, "--ingress", "udp") as third,
            ):
                assert notified.recv(100) == f"MAINPID={second.supervisor}".encode()
                assert third.end() == 0
            assert not any(first.socket.parent.iterdir())

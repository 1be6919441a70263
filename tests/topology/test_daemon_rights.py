"""Identity, capabilities and descriptors of the daemon's processes, as the kernel shows them."""

import json
import os
import pwd
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

import mcr
from mcr.protocol.constants import ErrorCode

from .checks import assert_balanced
from .daemons import Daemon, serving
from .deaths import descriptors
from .lab import Lab
from .namespaces import Namespace
from .relays import Ingress
from .traffic import payloads

NOBODY = 65534
PLAIN = 64999
"""A user of nothing else, so that what the kernel counts for a user is all of this daemon's."""
OTHER = next(user for user in pwd.getpwall() if user.pw_uid not in {0, NOBODY})
RULE = "239.1.91.1%in0:5001 to 239.2.91.1%out0:6001"
NONE = "0000000000000000"
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NET_RAW = 1 << 13
# KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_ADMIN, NET_RAW, IPC_LOCK.
SUPERVISOR = sum(1 << number for number in (5, 6, 7, 8, 10, 12, 13, 14))

SHOW = """
kept=$(mktemp -d)
mount --bind "$0/$1" "$kept"
mount -t tmpfs -o mode=755 tmpfs "$0"
mkdir "$0/$1"
mount --bind "$kept" "$0/$1"
umount "$kept"
rmdir "$kept"
shift
exec "$@"
"""

CLIENT = """
import socket, sys
talk = socket.socket(socket.AF_UNIX)
talk.connect(sys.argv[1])
talk.sendall(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\\n')
sys.stdout.buffer.write(talk.makefile("rb").readline())
"""


def as_user(uid: int, gid: int, *groups: int) -> list[str]:
    """The prefix of a command that runs as another user, without capabilities."""
    others = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return ["setpriv", "--reuid", str(uid), "--regid", str(gid), *others]


def with_net_raw(uid: int) -> list[str]:
    """The prefix of a command that runs as another user with CAP_NET_RAW."""
    granted = ["--inh-caps", "-all,+net_raw", "--ambient-caps", "-all,+net_raw"]
    return [*as_user(uid, uid), *granted, "--bounding-set", "-all,+net_raw"]


def reaching(*program: str) -> list[str]:
    """What starts a program for which the interpreter is not hidden in a home directory of root.

    Shows what is in such a directory to everybody, in the mount namespace that `ip netns exec` has
    made for this one program.
    """
    path = Path(sys.executable).resolve()
    closed = [each for each in path.parents if not each.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return list(program)
    hidden = path.relative_to(closed[-1]).parts[0]
    return ["sh", "-ec", SHOW, str(closed[-1]), hidden, *program]


def statuses(pid: int) -> list[dict[str, str]]:
    """The status of each thread of a process, from /proc."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    assert texts
    return [dict(line.split(":\t", 1) for line in text.splitlines()) for text in texts]


def assert_confined(pid: int, uid: int, gid: int, bounding: str = NONE) -> None:
    """Every thread has this user, no capability, and no way to get one."""
    for status in statuses(pid):
        assert status["Uid"].split() == [str(uid)] * 4
        assert status["Gid"].split() == [str(gid)] * 4
        assert status["Groups"].split() == []
        held = {name: status[name] for name in SETS}
        assert held == dict.fromkeys(SETS, NONE) | {"CapBnd": bounding}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that the unprivileged users of these tests can reach."""
    with tempfile.TemporaryDirectory(prefix="mcrd") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def relays(lab: Lab, daemon: Daemon) -> None:
    """Check that the daemon relays, to the datagram."""
    sent = payloads(200)
    with (
        daemon.client() as client,
        lab.receive("239.2.91.1", 6001) as receiver,
        lab.sender("239.1.91.1", 5001) as sender,
    ):
        client.add_rule(RULE)
        sender.send(sent)
        receiver.expect(sent)
        # What a worker has sent is counted at the end of its turn.
        wait_until(lambda: client.stats().rules[0].matched == len(sent))
        assert_balanced(client.stats())


@pytest.mark.parametrize("user", [None, OTHER.pw_name])
def test_only_the_supervisor_has_rights(lab: Lab, ingress: Ingress, user: str | None) -> None:
    """Started as root: all other processes are nobody or the named user."""
    account = pwd.getpwnam(user or "nobody")
    named = [] if user is None else ["--user", user]
    with serving(lab.relay, "--ingress", ingress, "--workers", "2", *named) as daemon:
        relays(lab, daemon)
        supervisor, *others = daemon.processes
        assert len(others) == 3
        for pid in others:
            assert_confined(pid, account.pw_uid, account.pw_gid)
        for status in statuses(supervisor):
            kept = f"{SUPERVISOR:016x}"
            assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {kept}
            assert (status["CapInh"], status["CapAmb"], status["NoNewPrivs"]) == (NONE, NONE, "1")


def test_with_cap_net_raw_only_no_user_changes(lab: Lab, home: Path) -> None:
    """The ingress is `packet`, and children lack even that capability."""
    os.chown(home, PLAIN, PLAIN)
    path = home / "mcr.sock"
    with serving(lab.relay, socket=path, before=reaching(*with_net_raw(PLAIN))) as daemon:
        assert "ingress packet" in daemon.read_log()
        relays(lab, daemon)
        supervisor, *others = daemon.processes
        for pid in others:
            # Without CAP_SETPCAP nobody can shrink the bounding set; it grants nothing.
            assert_confined(pid, PLAIN, PLAIN, bounding=f"{NET_RAW:016x}")
        for status in statuses(supervisor):
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == NET_RAW
            assert (status["CapInh"], status["CapAmb"]) == (NONE, NONE)
            assert status["Uid"].split() == [str(PLAIN)] * 4
        assert daemon.end() == 0


def test_without_rights_the_ingress_is_udp(lab: Lab, home: Path) -> None:
    """With one warning; the socket is in the user's directory and private."""
    os.chown(home, PLAIN, PLAIN)
    path = home / "mcr" / "mcr.sock"
    launcher = reaching(*as_user(PLAIN, PLAIN), "--bounding-set", "-all")
    launcher += ["env", f"XDG_RUNTIME_DIR={home}"]
    with serving(lab.relay, socket=path, before=launcher, names_socket=False) as daemon:
        relays(lab, daemon)
        said = daemon.read_log().splitlines()
        (line,) = (line for line in said if "CAP_NET_RAW" in line)
        assert line.startswith("warning: CAP_NET_RAW is missing: the ingress is udp")
        for pid in daemon.processes[1:]:
            assert_confined(pid, PLAIN, PLAIN)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert daemon.end() == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("rule", "capability"),
    [
        (f"{RULE},source=keep", "CAP_NET_ADMIN or CAP_NET_RAW"),
        (f"{RULE},sport=keep", "CAP_NET_RAW"),
        (RULE.replace("5001", "501"), "CAP_NET_BIND_SERVICE"),
    ],
)
def test_a_rule_that_needs_a_right_is_named(lab: Lab, rule: str, capability: str) -> None:
    """It is the daemon that lacks the right, whoever the client is."""
    lacking = ["setpriv", "--bounding-set", "-net_raw,-net_admin,-net_bind_service"]
    with serving(lab.relay, before=lacking) as daemon, daemon.client() as client:
        with pytest.raises(mcr.RightsError) as caught:
            client.add_rule(rule)
        said = str(caught.value)
        assert said.startswith(f"rule {rule}: {capability} is missing: ")
        assert "; run the daemon as root or grant it the capability" in said
        assert client.rules().revision == 0


# What each process has open.


def opened(namespace: Namespace, pid: int) -> list[str]:
    """The open descriptors of a process: kinds of sockets and memory, names of files."""
    tables = {
        kind: set(re.findall(r"\d+", namespace.proc_net(table)))
        for kind, table in [
            ("packet", "packet"),
            ("udp", "udp"),
            ("raw", "raw"),
            ("udp6", "udp6"),
            ("netlink", "netlink"),
            ("unix", "unix"),
        ]
    }
    kinds = []
    for target in descriptors(pid).values():
        inode = re.fullmatch(r"socket:\[(\d+)\]", target)
        if inode is None:
            kinds.append(target)
        else:
            kinds.append(next((k for k, known in tables.items() if inode[1] in known), "unbound"))
    return sorted(kinds)


def test_each_process_has_open_what_it_needs(lab: Lab, ingress: Ingress) -> None:
    """Control has no socket of a rule, a worker no file and nothing of another worker."""
    arguments = ("--ingress", ingress, "--workers", "2", "--user", OTHER.pw_name)
    with serving(lab.relay, *arguments) as daemon, daemon.client() as client:
        client.add_rule(f"{RULE} 239.2.91.2%out1:6001")
        _supervisor, control, *workers = daemon.processes
        nothing, log = "/dev/null", "pipe"
        # A UDP socket that asks for MTUs is bound to nothing, and so in no table.
        memory = "/memfd:mcr-events (deleted)"  # the number of the last event
        allowed = {nothing, log, memory, "unix", "anon_inode:[eventpoll]", "unbound"}
        found = {
            kind.split(":[")[0] if "pipe" in kind else kind for kind in opened(lab.relay, control)
        }
        assert found <= allowed, found
        sockets: list[set[str]] = []
        for pid in workers:
            kinds = opened(lab.relay, pid)
            page = [kind for kind in kinds if kind.startswith("/memfd:")]
            assert page == ["/memfd:mcr-statistics (deleted)"]
            # Before Linux 6.14 only a file has the IPv4 memberships.
            igmp = {kind for kind in kinds if re.fullmatch(r"/proc/\d+/task/\d+/net/igmp", kind)}
            files = {kind for kind in kinds if kind.startswith("/")} - {nothing, *page, *igmp}
            assert files == set(), files
            assert kinds.count("packet") == (1 if ingress == "packet" else 0)
            assert kinds.count("anon_inode:[io_uring]") == 1
            links = descriptors(pid).values()
            sockets.append({link for link in links if link.startswith("socket:")})
        assert not sockets[0] & sockets[1]
        memories = [os.stat(f"/proc/{pid}/fd/5").st_ino for pid in workers]
        assert memories[0] != memories[1]


# The socket.


def ask_as(path: Path, uid: int, gid: int, *groups: int) -> subprocess.CompletedProcess[str]:
    """Send a ping as another user."""
    command = [*as_user(uid, gid, *groups), sys.executable, "-I", "-c", CLIENT, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_the_socket_is_for_root_and_its_group(lab: Lab) -> None:
    """By its mode, and by peer credentials whatever its mode."""
    with serving(lab.relay, "--user", OTHER.pw_name) as daemon:
        status = daemon.socket.stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert (status.st_uid, status.st_gid) == (0, OTHER.pw_gid)
        refused = ask_as(daemon.socket, NOBODY, NOBODY)
        assert "PermissionError" in refused.stderr
        for who in [(OTHER.pw_uid, OTHER.pw_gid), (NOBODY, NOBODY, OTHER.pw_gid)]:
            assert "result" in json.loads(ask_as(daemon.socket, *who).stdout)
        daemon.socket.chmod(0o666)
        answer = json.loads(ask_as(daemon.socket, NOBODY, NOBODY).stdout)
        assert answer["error"]["code"] == ErrorCode.RIGHTS
        assert f"user {NOBODY} may not use this daemon" in answer["error"]["message"]


def test_the_group_of_nobody_gives_no_access(lab: Lab) -> None:
    """Without --user only root may use the daemon, not even control's user."""
    with serving(lab.relay) as daemon:
        assert daemon.socket.stat().st_gid == os.getegid()
        daemon.socket.chmod(0o666)
        answer = json.loads(ask_as(daemon.socket, NOBODY, NOBODY).stdout)
        assert answer["error"]["code"] == ErrorCode.RIGHTS

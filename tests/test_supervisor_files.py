"""The supervisor's files: sealed memory, the state file, the socket's path."""

import fcntl
import functools
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.deadline import wait_until

from mcr.daemon.control.event_sequence import EventSequence
from mcr.daemon.sealed_memfd import (
    LIMIT_BYTES,
    SEALS,
    SealedMemfdError,
    check_sealed,
    read_bounded,
    sealed_memfd,
)
from mcr.daemon.supervisor import StartError
from mcr.daemon.supervisor.atomic_file import save
from mcr.daemon.supervisor.disk_thread import DiskThread
from mcr.daemon.supervisor.listener import Listener
from mcr.daemon.supervisor.snapshot_store import SnapshotStore
from mcr.shared_memory import fixed_size_memfd


class TestKept:
    """The kept snapshot, which is not parsed."""

    def test_memory_for_event_numbers_keeps_its_size(self) -> None:
        """Its holder can write any numbers, and the next one reads them."""
        descriptor = fixed_size_memfd(4096, "test")
        try:
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, 1 << 30)
            with pytest.raises(PermissionError):
                os.pwrite(descriptor, b"x", 4096)
            assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
            assert set(EventSequence(descriptor).last().values()) == {0}
            os.pwrite(descriptor, b"\xff" * 4096, 0)
            numbers = EventSequence(descriptor)
            for kind, number in numbers.last().items():
                numbers.record(kind, number + 1)
        finally:
            os.close(descriptor)

    @pytest.mark.parametrize(
        "seals", [0, SEALS & ~fcntl.F_SEAL_WRITE, SEALS & ~fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW]
    )
    def test_memory_must_be_sealed(self, seals: int) -> None:
        """By all three seals: else it could change, or its reader be killed by a missing page."""
        descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        with pytest.raises(SealedMemfdError, match="not sealed"):
            check_sealed(descriptor)
        os.close(descriptor)

    def test_a_file_is_not_accepted_as_memory(self, tmp_path: Path) -> None:
        """Nor is a pipe; neither is read."""
        (tmp_path / "file").touch()
        with (
            (tmp_path / "file").open() as file,
            pytest.raises(SealedMemfdError, match="not a sealable memfd"),
        ):
            check_sealed(file.fileno())

    def test_its_size_has_a_limit(self) -> None:
        """Checked without reading the content."""
        descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, LIMIT_BYTES + 1)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        with pytest.raises(SealedMemfdError, match="the limit is"):
            check_sealed(descriptor)
        os.close(descriptor)

    @given(st.binary(max_size=5000))
    def test_sealed_memory_is_kept(self, content: bytes) -> None:
        """The content is returned, and no process can change it."""
        descriptor = sealed_memfd(content, "test")
        assert check_sealed(descriptor) == len(content)
        assert os.pread(descriptor, 6000, 0) == content
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        os.close(descriptor)

    def test_reading_is_bounded(self, tmp_path: Path) -> None:
        """A huge file, a pipe without a writer, a directory: an error at once."""
        huge = tmp_path / "huge"
        huge.touch()
        os.truncate(huge, LIMIT_BYTES + 1)
        os.mkfifo(tmp_path / "pipe")
        for path, wanted in (
            (huge, "larger than"),
            (tmp_path / "pipe", "not a regular file"),
            (tmp_path, "directory"),
        ):
            with pytest.raises(OSError, match=wanted):
                read_bounded(path)


class TestState:
    """The state file."""

    def test_the_file_is_replaced_atomically(self, tmp_path: Path) -> None:
        """A reader keeps the old file; left-overs are no obstacle."""
        path = tmp_path / "state"
        (tmp_path / ".state.new").symlink_to(tmp_path / "victim")
        path.write_text("old")
        memory = sealed_memfd(b"new", "test")
        with path.open() as reader:
            save(memory, 3, path)
            assert reader.read() == "old"
        os.close(memory)
        assert path.read_text() == "new"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.listdir(tmp_path) == ["state"]

    def test_a_file_size_limit_leaves_the_old_one(self, tmp_path: Path) -> None:
        """As a full disk does; in a separate process, since the limit is the process's."""
        path = tmp_path / "state"
        path.write_text("old")
        code = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from mcr.daemon.sealed_memfd import sealed_memfd\n"
            "from mcr.daemon.supervisor.atomic_file import save\n"
            "memory = sealed_memfd(bytes(5000), 'test')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try:\n"
            "    save(memory, 5000, Path(sys.argv[1]))\n"
            "except OSError as error:\n"
            "    print(error.strerror)\n"
        )
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert done.stdout == "File too large\n"
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["state"]

    @pytest.fixture
    def disk(self) -> Iterator[DiskThread]:
        """A disk thread that is closed after the test."""
        made, before = DiskThread(), threading.active_count()
        yield made
        made.close()
        assert threading.active_count() == before - 1

    def test_a_slow_disk_gets_only_the_newest(self, disk: DiskThread, tmp_path: Path) -> None:
        """Each change is answered in order, and only once its snapshot is on disk."""
        path = tmp_path / "state"
        answers: list[tuple[int, str | None, str]] = []
        snapshots = SnapshotStore(disk, path)
        gate = threading.Event()

        def slow() -> Callable[[], None]:
            gate.wait(10)
            return gate.clear

        def answer(number: int, fault: str | None) -> None:
            answers.append((number, fault, path.read_text()))

        def done() -> bool:
            disk.run_callbacks()
            return len(answers) == 5

        disk.run(slow)
        for number in range(5):
            snapshots.keep(sealed_memfd(b"%d" % number, "test"), functools.partial(answer, number))
        disk.run_callbacks()
        assert answers == []
        gate.set()
        wait_until(done)
        assert answers == [(0, None, "0"), *((number, None, "4") for number in range(1, 5))]
        assert disk.pending == 0

    def test_a_slow_disk_bounds_the_pending_snapshots(
        self, disk: DiskThread, tmp_path: Path
    ) -> None:
        """And so the open descriptors."""
        gate = threading.Event()

        def slow() -> Callable[[], None]:
            gate.wait(10)
            return gate.clear

        disk.run(slow)
        snapshots = SnapshotStore(disk, tmp_path / "state")
        # The first is on its way already.
        for _ in range(1001):
            snapshots.keep(sealed_memfd(b"x", "test"), lambda fault: None)
        with pytest.raises(SealedMemfdError, match="1000 others wait for the disk"):
            snapshots.keep(sealed_memfd(b"x", "test"), lambda fault: None)
        gate.set()

    def test_a_state_file_that_cannot_be_read(self, disk: DiskThread, tmp_path: Path) -> None:
        """It is not treated as an empty one."""
        (tmp_path / "state").mkdir()
        with pytest.raises(OSError):  # noqa: PT011 -- which one depends on the file
            SnapshotStore(disk, tmp_path / "state")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a socket."""
    return tmp_path / "mcr.sock"


def listen(path: Path) -> Listener:
    """A listener for this user."""
    return Listener(path, os.getegid(), private=True)


class TestListener:
    """The listener and its path."""

    def test_the_socket_is_created_and_removed(self, tmp_path: Path) -> None:
        """With its directory and lock; socket and lock are removed at the end."""
        path = tmp_path / "made" / "mcr.sock"
        with listen(path):
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(os.fspath(path))
        assert os.listdir(path.parent) == []

    def test_a_living_daemon_is_not_replaced(self, path: Path) -> None:
        """The lock names its process; without the lock file, the socket does."""
        wanted = f"a daemon with pid {os.getpid()} serves {path}"
        with listen(path):
            with pytest.raises(StartError, match=wanted):
                listen(path)
            path.with_name("mcr.sock.lock").unlink()
            with pytest.raises(StartError, match=wanted):
                listen(path)
            assert path.exists()

    def test_leftovers_of_a_dead_daemon_are_replaced(self, path: Path) -> None:
        """A socket on which no process listens, and a lock file that no process holds."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(os.fspath(path))
        path.with_name("mcr.sock.lock").write_text("1\n")
        with listen(path), socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))
        assert not path.exists()

    def test_control_of_a_dead_supervisor_is_waited_for(self, path: Path) -> None:
        """It still listens in the name of a dead process, and is about to exit."""
        code = (
            "import os, socket, sys, time\n"
            "listener = socket.socket(socket.AF_UNIX)\n"
            "listener.bind(sys.argv[1])\n"
            "listener.listen()\n"
            "if os.fork() == 0:\n"
            "    os.close(1)\n"
            "    time.sleep(0.5)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)
        with listen(path), socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(path))

    def test_a_file_that_is_no_socket_is_kept(self, path: Path) -> None:
        """It may be the user's."""
        path.write_text("precious")
        with pytest.raises(StartError, match="is not a socket"):
            listen(path)
        assert path.read_text() == "precious"
        assert os.listdir(path.parent) == ["mcr.sock"]

    def test_a_socket_at_the_same_path_is_kept(self, path: Path) -> None:
        """Only the daemon's own socket is removed at the end."""
        with listen(path), socket.socket(socket.AF_UNIX) as other:
            path.unlink()
            other.bind(os.fspath(path))
        assert path.exists()

    @pytest.mark.parametrize(
        ("where", "wanted"),
        [
            (
                Path("/no/such/directory/x"),
                "x: there is no directory /no/such; make it, or choose a path with --socket",
            ),
            (Path("/dev/null/x/y"), "y: Not a directory; choose another path with --socket"),
            (Path("/", "x" * 108), "longer than the 107 bytes .*; choose another path with --so"),
        ],
    )
    def test_invalid_paths(self, where: Path, wanted: str) -> None:
        """Each is one error."""
        with pytest.raises(StartError, match=wanted):
            listen(where)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    @pytest.mark.parametrize("where", [Path("/etc/mcr-test.sock"), Path("/etc/mcr-test/x.sock")])
    def test_a_user_without_the_right(self, where: Path) -> None:
        """To create the socket, or its directory."""
        os.seteuid(65534)
        try:
            with pytest.raises(StartError) as refused:
                listen(where)
        finally:
            os.seteuid(0)
        assert str(refused.value) == (
            f"cannot listen at {where}: this user may not create it; choose another path with"
            " --socket"
        )

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
    def test_the_directory_of_another_user_is_refused(self, tmp_path: Path) -> None:
        """Its owner could replace the socket."""
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 65534, 65534)
        with pytest.raises(StartError, match="belongs to another user"):
            listen(tmp_path / "theirs" / "x")
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        with pytest.raises(StartError, match="writable by everyone"):
            listen(tmp_path / "open" / "x")

    def test_of_concurrent_starts_one_serves(self, path: Path) -> None:
        """In each round; those that start while another ends are refused or serve alone."""
        serving, most, faults = [0], [0], []

        def start() -> None:
            for _ in range(30):
                try:
                    with listen(path):
                        serving[0] += 1
                        most[0] = max(most[0], serving[0])
                        time.sleep(0.001)
                        serving[0] -= 1
                except StartError as error:
                    faults.append(str(error))

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most[0] == 1
        assert all("serves" in fault for fault in faults)
        assert not path.exists()

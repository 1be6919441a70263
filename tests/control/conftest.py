"""A control process for tests that only read, and do no harm to it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_supervisor import FakeSupervisor, Talk, daemon
from tests.support.fake_worker import FakeWorker


@pytest.fixture(scope="module", autouse=True)
def _no_threads_stay() -> Iterator[None]:
    """What a fake leaves running would take a later test's signals."""
    yield
    FakeWorker.end_all()


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where sockets go: a path of pytest's own may be too long for one."""
    with tempfile.TemporaryDirectory(prefix="mcr-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def served(directory: Path) -> Iterator[FakeSupervisor]:
    """A control process with two workers."""
    with daemon(directory, workers=2) as supervisor:
        yield supervisor


@pytest.fixture
def talk(served: FakeSupervisor) -> Iterator[Talk]:
    """A client of it."""
    with Talk(served.path) as made:
        yield made

"""Control processes with fake workers, and their clients."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.fake_supervisor import FakeSupervisor, control_process
from tests.support.fake_worker import FakeWorker
from tests.support.raw_client import RawClient


@pytest.fixture(scope="module", autouse=True)
def _no_threads_stay() -> Iterator[None]:
    """A thread of a fake that is left running would receive signals of later tests."""
    yield
    FakeWorker.end_all()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path for sockets: pytest's own may exceed the limit."""
    with tempfile.TemporaryDirectory(prefix="mcr-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def supervisor(directory: Path) -> Iterator[FakeSupervisor]:
    """A control process with two workers."""
    with control_process(directory, workers=2) as supervisor:
        yield supervisor


@pytest.fixture
def client(supervisor: FakeSupervisor) -> Iterator[RawClient]:
    """A client of it."""
    with RawClient(supervisor.path) as made:
        yield made


@pytest.fixture(scope="module")
def _shared(_no_threads_stay: None) -> Iterator[FakeSupervisor]:
    with (
        tempfile.TemporaryDirectory(prefix="mcr-", dir="/tmp") as made,
        control_process(Path(made), workers=2) as supervisor,
    ):
        yield supervisor


@pytest.fixture
def reader(_shared: FakeSupervisor) -> Iterator[RawClient]:
    """A client for tests that change nothing; they share one control process."""
    with RawClient(_shared.path) as made:
        yield made

"""Clients of both kinds, and the real control process that they use."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.support.fake_supervisor import FakeSupervisor, control_process
from tests.support.fake_worker import FakeWorker
from tests.support.line_proxy import LineProxy, line_proxy
from tests.support.raw_client import RawClient

import mcr

from .clients import Awaited, Opener


@pytest.fixture(scope="package")
def shared_control() -> Iterator[FakeSupervisor]:
    """A control process with one worker, for all tests of this folder."""
    with (
        tempfile.TemporaryDirectory(prefix="mcr-", dir="/tmp") as directory,
        control_process(Path(directory)) as supervisor,
    ):
        yield supervisor
    FakeWorker.end_all()


@pytest.fixture
def control(shared_control: FakeSupervisor) -> FakeSupervisor:
    """The control process, without rules and with the initial log levels."""
    with RawClient(shared_control.path) as client:
        client.call("rules.replace", rules=[])
        client.call("logs.set", level="info")
        for facility, level in client.call("logs.get")["facilities"].items():
            if level is not None:
                client.call("logs.set", facility=facility, level=None)
    worker = shared_control.workers[0]
    worker.counts, worker.losses, worker.kernel_dropped_frames = {}, {}, 0
    return shared_control


@pytest.fixture
def revision(control: FakeSupervisor) -> int:
    """The revision of the rules before the test."""
    with RawClient(control.path) as client:
        number: int = client.call("ping")["revision"]
    return number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path at which no process listens yet."""
    return tmp_path / "mcr.sock"


@pytest.fixture
def proxy(control: FakeSupervisor, path: Path) -> Iterator[LineProxy]:
    """A proxy in front of the control process."""
    with line_proxy(path, control.path) as made:
        yield made


@pytest.fixture(params=["blocking", "asyncio"])
def opened(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Creates clients of one kind, and closes them."""
    made: list[mcr.Client] = []
    with asyncio.Runner() as runner:

        def opener(path: Path, timeout_s: float = 5.0) -> mcr.Client:
            client = (
                mcr.Client(path, timeout_s=timeout_s)
                if request.param == "blocking"
                else cast(
                    mcr.Client, Awaited(runner, lambda: mcr.AsyncClient(path, timeout_s=timeout_s))
                )
            )
            made.append(client)
            return client

        yield opener
        for client in made:
            client.close()


@pytest.fixture
def client(control: FakeSupervisor, opened: Opener) -> mcr.Client:
    """A client of the control process."""
    return opened(control.path)


@pytest.fixture
def proxied(proxy: LineProxy, opened: Opener) -> mcr.Client:
    """A client of the control process, through the proxy."""
    return opened(proxy.path)

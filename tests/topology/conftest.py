"""Fixtures: rights, networks, and the variants of tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.worker_process import WorkerProcess, WorkerResources

from .egress import Kind
from .lab import Lab
from .namespaces import Net, remove_leftovers
from .relays import Ingress
from .rights import missing

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this directory."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.topology)


@pytest.fixture(scope="session", autouse=True)
def _rights() -> None:
    """Skip tests whose rights are missing, with the reason; in CI that is a failure."""
    reason = missing()
    if reason is None:
        remove_leftovers()
    elif os.environ.get("CI"):
        pytest.fail(f"CI must run the topology tests: {reason}")
    else:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def net(_rights: None) -> Iterator[Net]:
    """Namespaces and links that are removed after the module's tests."""
    with Net() as made:
        yield made


@pytest.fixture(scope="module")
def lab(net: Net) -> Lab:
    """One source, one relay host, one receiver."""
    return Lab.build(net)


@pytest.fixture(params=["packet", "udp"])
def ingress(request: pytest.FixtureRequest) -> Ingress:
    """Run the test with both ingresses."""
    kind: Ingress = request.param
    return kind


@pytest.fixture(params=["library", "daemon"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Run the test with a relay of this process and with a daemon."""
    kind: Kind = request.param
    return kind


@pytest.fixture(params=[False, True], ids=["plain", "gro"])
def gro(request: pytest.FixtureRequest, lab: Lab) -> bool:
    """Run the test with single datagrams, and with super-frames and GRO."""
    on: bool = request.param
    lab.set_offload(on=on)
    return on


@pytest.fixture(params=["packet", "udp"])
def resources(request: pytest.FixtureRequest) -> Iterator[WorkerResources]:
    """What outlives a worker, for either ingress."""
    with WorkerResources(request.param) as resources:
        yield resources


@pytest.fixture
def worker(lab: Lab, resources: WorkerResources) -> Iterator[WorkerProcess]:
    """A worker in the relay's namespace, which must still run at the end."""
    with lab.relay:
        worker = WorkerProcess(resources)
    with worker:
        yield worker
        assert worker.process.poll() is None

"""A daemon with observers on loopback, and a server in front of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.web_process import WebProcess, web_process
from tests.topology.daemons import Daemon, serving


@pytest.fixture(scope="package")
def daemon() -> Iterator[Daemon]:
    """A daemon that counts flows and latency, shared by the tests of this folder."""
    with serving(None, "--ingress", "udp", "--flows", "--latency", "--observers", "sys") as made:
        yield made


@pytest.fixture(scope="package")
def observers(daemon: Daemon) -> Path:
    """Its socket for observers."""
    return daemon.socket.with_name("mcr-observers.sock")


@pytest.fixture(scope="package")
def web(observers: Path) -> Iterator[WebProcess]:
    """A server on loopback without a token."""
    with web_process(observers) as made:
        yield made


@pytest.fixture(autouse=True)
def _without_rules(daemon: Daemon) -> Iterator[None]:
    """Each test begins and ends without rules."""
    yield
    with daemon.client() as client:
        client.replace_rules([])

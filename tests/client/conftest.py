"""What the tests of the clients share: a daemon, and clients of both kinds for it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.fake_daemon import MadeUpDaemon, made_up_daemon

import mcr


class Awaited:
    """An `AsyncClient` (or its events) whose every method is awaited in a loop of its own."""

    def __init__(self, runner: asyncio.Runner, make: Callable[[], Any]) -> None:
        async def made() -> Any:  # noqa: ANN401
            return make()

        self._runner = runner
        self._inner = runner.run(made())

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        method = getattr(self._inner, name)
        if name == "events":
            return lambda *given, **named: Awaited(self._runner, lambda: method(*given, **named))
        return lambda *given, **named: self._runner.run(method(*given, **named))

    def __enter__(self) -> "Awaited":
        self._runner.run(self._inner.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._inner.__aexit__(None, None, None))

    def __next__(self) -> mcr.Event:
        event: mcr.Event = self._runner.run(anext(self._inner))
        return event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the daemon listens."""
    return tmp_path / "mcr.sock"


@pytest.fixture
def daemon(path: Path) -> Iterator[MadeUpDaemon]:
    """A daemon that is well."""
    with made_up_daemon(path) as made:
        yield made


@pytest.fixture(params=["blocking", "asyncio"])
def opened(request: pytest.FixtureRequest, path: Path) -> Iterator[Callable[..., mcr.Client]]:
    """Makes clients of one kind, and closes them."""
    made: list[mcr.Client] = []
    with asyncio.Runner() as runner:

        def opener(timeout_s: float = 5.0) -> mcr.Client:
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
def client(daemon: MadeUpDaemon, opened: Callable[..., mcr.Client]) -> mcr.Client:
    """A client of the daemon."""
    return opened()

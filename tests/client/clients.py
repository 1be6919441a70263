"""Clients of both kinds with the same interface."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import mcr


class Opener(Protocol):
    """Creates clients of one kind."""

    def __call__(self, path: Path, timeout_s: float = 5.0) -> mcr.Client:
        """Create a client; it is closed at the end of the test."""


class Awaited:
    """An `AsyncClient` or its stream of events; each call runs an event loop until it returns."""

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

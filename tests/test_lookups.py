"""Queries whose answers are late or missing."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait

import pytest

from mcr.rules import name_service
from mcr.rules.name_service import look_up

PATIENCE_S = 0.2


class Service:
    """Answers at once, except for names that begin with "slow"."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.asked: list[str] = []

    def ask(self, name: str) -> str:
        """Block until the end of the test, or answer."""
        self.asked.append(name)
        if name.startswith("slow"):
            self.over.wait(30)
        return name.upper()


@pytest.fixture
def service() -> Iterator[Service]:
    """A name service without pending queries at the end."""
    service = Service()
    yield service
    service.over.set()
    while name_service._pending:
        threading.Event().wait(0.01)


def found(service: Service, names: list[str]) -> set[str]:
    """The answers, by time."""
    return {future.result() for future in look_up(names, service.ask, PATIENCE_S).values()}


def test_a_missing_answer_delays_no_other(service: Service) -> None:
    """In whatever order the names are resolved."""
    names = ["slow", "one", "two"]
    assert found(service, names) == {"ONE", "TWO"}
    assert found(service, names[::-1]) == {"ONE", "TWO"}


def test_each_name_is_queried_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if it is answered while others are processed."""

    def wait_long(futures: set[Future[str]], within_s: float, until: str) -> object:
        first = wait(futures, within_s, until)
        service.over.set()
        while name_service._pending:
            threading.Event().wait(0.01)
        return first

    names = ["one", "slow1", "slow2"]
    with monkeypatch.context() as patched:
        patched.setattr(name_service, "wait", wait_long)
        assert found(service, names) == {"ONE", "SLOW1", "SLOW2"}
    assert sorted(service.asked) == sorted(names)


def test_many_missing_answers_leave_room_for_others(service: Service) -> None:
    """When some time out, other names are queried."""
    names = [f"slow{number}" for number in range(2 * name_service._PENDING_LIMIT)] + ["one"]
    for _ in range(50):
        if found(service, names):
            break
        service.over.set()
        while name_service._pending:
            threading.Event().wait(0.01)
        service.over.clear()
    else:
        pytest.fail("it was never asked")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_thread_that_does_not_start(
    service: Service, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Ctrl-C at that moment, or a limit on threads; the name can be queried again."""

    def start(_thread: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        if error is RuntimeError:
            assert look_up(["one"], service.ask, PATIENCE_S) == {}
        else:
            with pytest.raises(error):
                look_up(["one"], service.ask, PATIENCE_S)
    assert found(service, ["one"]) == {"ONE"}

"""Questions to the system's name service, each in a thread of its own.

An answer may take half a minute, and nobody has to wait for it that long. Owns how many are asked
at once. Knows no names.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")
_MOST = 64  # that wait for an answer; a service that answers has few of them

_lock = threading.Lock()
_asked: dict[Hashable, Future[Any]] = {}


def look_up(
    questions: Iterable[Question], ask: Callable[[Question], Answer], patience_s: float
) -> dict[Question, Future[Answer]]:
    """Ask all at once, and wait until they are answered or the time is over.

    What is still being asked from a time before is not asked twice.

    Args:
        questions: each once.
        ask: gives the answer, or raises why there is none.
        patience_s: the longest time to wait in all, in seconds.

    Returns:
        What was answered: a result or an exception.
    """
    ends_s = time.monotonic() + patience_s
    # In any order: else those that nobody answers would be asked first each time, and only they.
    waiting = list(questions)
    random.shuffle(waiting)
    begun = {each: future for each in waiting if (future := _begin(each, ask)) is not None}
    waiting = [each for each in waiting if each not in begun]
    seen: set[Future[Answer]] = set()
    while True:
        left_s = max(0.0, ends_s - time.monotonic())
        done = wait({*begun.values()} - seen, left_s, FIRST_COMPLETED).done
        if not done:  # the time is over, or too many are asked that nobody answers
            break
        seen |= done
        while waiting and (future := _begin(waiting[-1], ask)) is not None:
            begun[waiting.pop()] = future
    return {each: future for each, future in begun.items() if future.done()}


def _begin(question: Hashable, ask: Callable[[Any], Any]) -> Future[Any] | None:
    """The answer to come; None while too many are awaited, or there are too many threads."""
    future = Future[Any]()
    try:
        with _lock:
            if question in _asked:
                return _asked[question]
            if len(_asked) >= _MOST:
                return None
            _asked[question] = future
        threading.Thread(
            target=_answer, args=(question, ask, future), name="mcr-lookup", daemon=True
        ).start()
    except RuntimeError:  # the system gives no thread
        _end(question, future)
        return None
    except BaseException:  # of a signal handler
        _end(question, future)
        raise
    return future


def _answer(question: Hashable, ask: Callable[[Any], Any], future: Future[Any]) -> None:
    # A program that waits for its signals has them held in its other threads only.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    result, error = None, None
    try:
        result = ask(question)
    except Exception as raised:
        error = raised
    _end(question, future)  # before it is known: who asks again wants a new answer
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _end(question: Hashable, future: Future[Any]) -> None:
    with _lock:
        if _asked.get(question) is future:
            del _asked[question]


def _forget() -> None:
    """In a forked child, which has none of these threads, and whose lock may be held for ever."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _asked.clear()


os.register_at_fork(after_in_child=_forget)

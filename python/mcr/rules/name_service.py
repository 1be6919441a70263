"""Queries to the system's name service, each in its own thread.

An answer may take half a minute; the caller waits no longer than its timeout. The number of
concurrent queries is bounded.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

Query = TypeVar("Query", bound=Hashable)
Answer = TypeVar("Answer")
_PENDING_LIMIT = 64  # queries without an answer; a service that works has few of them

_lock = threading.Lock()
_pending: dict[Hashable, Future[Any]] = {}


def look_up(
    queries: Iterable[Query], resolve: Callable[[Query], Answer], timeout_s: float
) -> dict[Query, Future[Answer]]:
    """Send all queries at once, and wait until they are answered or the timeout is over.

    A query that is still pending from an earlier call is not sent twice.

    Args:
        queries: without duplicates.
        resolve: returns the answer of a query, or raises an exception.
        timeout_s: the total timeout, in seconds.

    Returns:
        The answered queries, each with a result or an exception.
    """
    deadline_s = time.monotonic() + timeout_s
    # Shuffled, so that unanswered queries do not occupy all threads in every call.
    unsent = list(queries)
    random.shuffle(unsent)
    sent = {query: future for query in unsent if (future := _send(query, resolve)) is not None}
    unsent = [query for query in unsent if query not in sent]
    finished: set[Future[Answer]] = set()
    while True:
        left_s = max(0.0, deadline_s - time.monotonic())
        done = wait({*sent.values()} - finished, left_s, FIRST_COMPLETED).done
        if not done:  # the timeout, or nothing was sent because too many queries are pending
            break
        finished |= done
        while unsent and (future := _send(unsent[-1], resolve)) is not None:
            sent[unsent.pop()] = future
    return {query: future for query, future in sent.items() if future.done()}


def _send(query: Hashable, resolve: Callable[[Any], Any]) -> Future[Any] | None:
    """The future answer; None while too many queries are pending or no thread can be started."""
    future = Future[Any]()
    try:
        with _lock:
            if query in _pending:
                return _pending[query]
            if len(_pending) >= _PENDING_LIMIT:
                return None
            _pending[query] = future
        threading.Thread(
            target=_answer, args=(query, resolve, future), name="mcr-lookup", daemon=True
        ).start()
    except RuntimeError:  # no thread could be started
        _remove(query, future)
        return None
    except BaseException:  # raised by a signal handler
        _remove(query, future)
        raise
    return future


def _answer(query: Hashable, resolve: Callable[[Any], Any], future: Future[Any]) -> None:
    # A program that waits for signals may have blocked them in its own threads only.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    result, error = None, None
    try:
        result = resolve(query)
    except Exception as raised:
        error = raised
    _remove(query, future)  # before the result is set, so that the next call sends a new query
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _remove(query: Hashable, future: Future[Any]) -> None:
    with _lock:
        if _pending.get(query) is future:
            del _pending[query]


def _reset_after_fork() -> None:
    """Reset the state in a forked child: the threads do not exist, and the lock may be held."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _pending.clear()


os.register_at_fork(after_in_child=_reset_after_fork)

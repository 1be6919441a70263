"""What a configuration of many rules costs control, in starts of an interpreter.

Other load takes caches away and so adds to the time, of both alike. The limits are about twice of
what it is: 38 for rules that are new, 0.6 for rules that are there already.
"""

import time
from collections.abc import Mapping

import pytest
from tests.support.cpu_time import interpreter_start_s
from tests.support.fake_host import HOST

from mcr.daemon.control.rules import rulebook
from mcr.daemon.control.rules.entries import EntryReader
from mcr.daemon.control.rules.rulebook import Rulebook
from mcr.json_codec import encode
from mcr.rules import Rule
from mcr.rules.hostnames import HostResolver

COUNT = 2000
RULES = [
    f"239.{2 + number // 250}.{number % 250 + 1}.1%eth0:5001 to"
    f" 239.{100 + number // 250}.{number % 250 + 1}.1%eth1:6001"
    for number in range(COUNT)
]
NEW_LIMIT, UNCHANGED_LIMIT = 80.0, 2.0


def apply_s(book: Rulebook, known: Mapping[str, Rule]) -> tuple[float, int]:
    """The processor time of a configuration with all rules, and how many were unchanged."""
    began_s = time.thread_time()
    reader = EntryReader(RULES, known=book.outputs_by_text, rules=known)
    while reader.read_slice():
        pass
    draft, found = book.apply(reader.entries(), HostResolver(), prune=False)
    book.commit(draft)
    result = found.result(draft, draft.revision, dry_run=False)
    encode(result)
    return time.thread_time() - began_s, result.unchanged


def test_many_rules_are_read_and_recognised_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time none of them is parsed, resolved or checked."""
    monkeypatch.setattr(rulebook, "interfaces", lambda: HOST)
    start_s = interpreter_start_s()
    book = Rulebook("packet")
    new_s, unchanged = apply_s(book, {})
    assert unchanged == 0
    assert new_s < NEW_LIMIT * start_s
    seconds, counts = zip(*(apply_s(book, book.by_text) for _ in range(3)), strict=True)
    assert set(counts) == {COUNT}
    print(f"new {new_s / start_s:.0f}, unchanged {min(seconds) / start_s:.2f} starts")
    assert min(seconds) < UNCHANGED_LIMIT * start_s

"""The examples of docs/protocol.md, executed: each request is sent, each answer compared."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from tests.topology.daemons import serving

from mcr.protocol.constants import LINE_BYTES, REPLAY_EVENTS, ErrorCode

PAGE = (Path(__file__).parents[1] / "docs/protocol.md").read_text()
TIMEOUT_S = 10
# The same everywhere, so that not only their type is compared.
FIXED = {"id", "rule", "enabled", "dry_run", "code", "message", "output", "ttl"}
OPEN = {"dropped", "errors"}  # whose keys are reasons, and only those that count are shown
BLOCKS = [
    [(line[:3], json.loads(line[4:])) for line in block.splitlines()]
    for block in re.findall(r"^```jsonl\n(.*?)^```$", PAGE, re.M | re.S)
]


@pytest.fixture(scope="module")
def protocol_socket() -> Iterator[Path]:
    """The socket of a daemon without rules."""
    with serving(None, "--ingress", "udp") as daemon:
        yield daemon.socket


def test_the_examples(protocol_socket: Path) -> None:
    """In the order of the page, each block on its own connection; `shutdown` is last."""
    ending = [block for block in BLOCKS if block[0][1]["method"] == "shutdown"]
    assert len(ending) == 1
    for block in [*(block for block in BLOCKS if block not in ending), *ending]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(protocol_socket))
            with connection.makefile("rw") as lines:
                _exchange(block, lines)


def _exchange(block: list[tuple[str, Any]], lines: TextIO) -> None:
    for direction, message in block:
        if direction == "-->":
            print(json.dumps(message), file=lines, flush=True)
            continue
        assert direction == "<--"
        answer = json.loads(lines.readline())
        while not _answers(message, answer):
            answer = json.loads(lines.readline())
        _compare(message, answer, json.dumps(message)[:80])


def _answers(documented: dict[str, Any], answer: dict[str, Any]) -> bool:
    """Whether a message is the answer that the page shows, and not another event."""
    if "id" in documented or "id" in answer:
        return documented.get("id") == answer.get("id")
    return all(
        documented["params"][name] == answer["params"].get(name)
        for name in ("kind", "event", "id")
        if name in documented["params"]
    )


def _compare(documented: object, answered: object, at: str) -> None:
    """Check for the same fields of the same types; null matches any missing value."""
    if documented is None or answered is None:
        return
    if isinstance(documented, dict):
        assert isinstance(answered, dict), at
        _compare_fields(documented, answered, at)
    elif isinstance(documented, list):
        assert isinstance(answered, list), at
        for each in answered:
            if documented:
                _compare(_alike(documented, each), each, f"{at}[]")
    else:
        number = isinstance(documented, int | float) and not isinstance(documented, bool)
        kinds = (int, float) if number else type(documented)
        assert isinstance(answered, kinds), f"{at}: {answered!r}"


def _compare_fields(documented: dict[str, Any], answered: dict[str, Any], at: str) -> None:
    is_open = at.rpartition(".")[2] in OPEN
    assert is_open or documented.keys() == answered.keys(), f"{at}: {answered}"
    for name in documented.keys() & answered.keys():
        _compare(documented[name], answered[name], f"{at}.{name}")
        if name in FIXED and not isinstance(documented[name], dict):
            assert documented[name] == answered[name], f"{at}.{name}"


def _alike(documented: list[Any], answered: object) -> object:
    """The page's example of this very thing, else its first example."""
    if isinstance(answered, dict):
        for name in ("id", "output", "name", "field"):
            for each in documented:
                if name in answered and each.get(name) == answered[name]:
                    return each
    return documented[0]


def test_every_method_and_error_is_shown() -> None:
    """The page omits none, and its limits are the daemon's."""
    asked = {message["method"] for block in BLOCKS for way, message in block if way == "-->"}
    headings = set(
        re.findall(r"[a-z]+(?:\.[a-z]+)?", " ".join(re.findall(r"^### (.+)$", PAGE, re.M)))
    )
    assert headings == asked - {"rules.lst"}
    codes = {int(code) for code in re.findall(r"^\| (-\d+) \|", PAGE, re.M)}
    assert codes == {int(code) for code in ErrorCode}
    assert f"| {LINE_BYTES >> 20} MiB |" in PAGE
    assert f"| events that are kept | {REPLAY_EVENTS} |" in PAGE


def test_the_python_program() -> None:
    """The program of the page runs unchanged, except for the path."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    with serving(None, "--ingress", "udp") as daemon:
        placed = code.replace("/run/mcr/mcr.sock", str(daemon.socket))
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", placed],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    assert "uptime_s" in run.stdout


def test_the_object_on_the_page_is_a_rule() -> None:
    """It is the one that the example of rules.add sends."""
    (text,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)
    asked = [message for block in BLOCKS for way, message in block if way == "-->"]
    assert any(json.loads(text) in message["params"].get("rules", []) for message in asked)

"""The tutorial works, and the rules and commands of the how-to pages are understood."""

import re
import shlex
import subprocess
from functools import cache

import pytest
from tests.support.documents import MCR, ROOT, TIMEOUT_S, Page, assert_printed, commands
from tests.support.own_command import mcr_here
from tests.test_readme import started

import mcr

TUTORIAL = Page.read("docs/tutorial.md")
PAGES = [Page(path.read_text()) for path in sorted((ROOT / "docs/howto").glob("*.md"))]
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.M | re.S)
BLOCKS = [(language, text) for page in PAGES for language, text in FENCE.findall(page.text)]
RULES = [line for language, text in BLOCKS if language == "text" for line in text.splitlines()]
SHELL = [text.replace("\\\n", " ") for language, text in BLOCKS if language == "sh"]


@pytest.mark.parametrize("text", RULES)
def test_rules_are_read(text: str) -> None:
    """Each rule is valid, and its canonical text means the same."""
    rule = mcr.Rule.parse(text)
    assert mcr.Rule.parse(str(rule)) == rule


@cache
def options_of(command: str) -> set[str]:
    """The options that the help of a command lists."""
    shown = mcr_here(command, "--help")
    assert shown.code == 0
    return set(re.findall(r"--[a-z-]+", shown.out))


def test_commands_are_understood() -> None:
    """Each command of mcr that a page has its reader type exists, with its options."""
    inline = re.findall(r"`(mcr [a-z]+[^`]*)`", "".join(page.text for page in PAGES))
    lines = [*inline, *(line for text in SHELL for line in text.splitlines())]
    found = [line[line.rindex("mcr ") :] for line in lines if re.search(r"(^|\s)mcr [a-z]", line)]
    assert len(found) >= 8
    for line in found:
        _, command, *arguments = shlex.split(line)
        assert {word for word in arguments if word.startswith("--")} <= options_of(command), line


def test_the_three_terminals_of_the_tutorial() -> None:
    """The stream arrives through the relay, and each command prints what is shown."""
    shown = dict(TUTORIAL.section("3. Relay a stream").sessions())
    receive, relay, send = commands("mcr", list(shown))
    with (
        started([*relay, "--ingress", "udp"], ready="ready") as relayed,
        started(receive, ready="receiving") as received,
    ):
        done = subprocess.run(
            [MCR, *send], check=True, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        for printed, expected in zip(
            (received(), relayed(), done.stderr + done.stdout), shown.values(), strict=True
        ):
            assert_printed(expected, printed)


@pytest.mark.parametrize("heading", ["2. Ask the doctor", "4. Ask where a datagram goes"])
def test_the_commands_of_the_tutorial(heading: str) -> None:
    """They succeed as they are."""
    (words,) = commands("mcr", TUTORIAL.section(heading).blocks("sh"))
    done = subprocess.run(
        [MCR, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode in ((0, 1) if words[0] == "doctor" else (0,)), done.stderr
    assert "239.1.1.1" in done.stdout

"""The documents speak of messages and reasons that exist."""

import re
from pathlib import Path

import pytest

import mcr

ROOT = Path(__file__).parents[1]
HEADINGS = re.findall(r'^### .*?"(.+)"', (ROOT / "docs/troubleshooting.md").read_text(), re.M)
SHORTEST = 6  # a shorter piece of a message says nothing
FOREIGN = {"mcr: command not found"}  # said by sudo


def sources() -> str:
    """All that can print a message, with strings that are broken over lines joined."""
    files = [*ROOT.glob("python/**/*.py"), *ROOT.glob("rust/**/*.rs"), ROOT / "scripts/preflight"]
    text = "\n".join(path.read_text() for path in files)
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    return re.sub(r"\\\n\s*", "", joined)


@pytest.mark.parametrize("message", [text for text in HEADINGS if text not in FOREIGN])
def test_messages_exist(message: str) -> None:
    """Each message of the troubleshooting page is one that mcr can print."""
    known = sources()
    for piece in message.split("…"):
        words = piece.strip(" ;:")
        assert len(words) < SHORTEST or words in known, words


def test_reasons_are_documented() -> None:
    """The accounting page lists exactly the reasons that a relay counts."""
    page = (ROOT / "docs/accounting.md").read_text()
    tables = re.split(r"^## Dropped at ", page, flags=re.M)[1:]
    at_interface, at_output = (set(re.findall(r"^\| `(\w+)`", table, re.M)) for table in tables)
    with mcr.Relay("239.79.1.1%lo:5079 to 127.0.0.1:7079", ingress="udp") as relay:
        stats = relay.stats()
    assert at_interface == set(stats.interfaces[0].dropped)
    assert at_output == set(stats.rules[0].outputs[0].dropped)

"""Messages, reasons, files and links in the documents exist."""

import re
from pathlib import Path

import pytest
from tests.support.documents import DOCUMENTS, FENCE, ROOT, Page

import mcr
from mcr import _native

HEADINGS = re.findall(r'^### .*?"(.+)"', (ROOT / "docs/troubleshooting.md").read_text(), re.M)
SHORTEST = 6  # a shorter piece of a message says nothing
FOREIGN = {"mcr: command not found"}  # said by sudo
COLUMNS = 100
PLACES = "(?:bench|docs|examples|findings|fuzz|python|rust|scripts|tests)"
ELSEWHERE = ("http://", "https://")


def sources() -> str:
    """All sources of messages, with strings over several lines joined."""
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


def test_reasons_of_ways_are_documented() -> None:
    """The usage page lists exactly the words that a relay shows."""
    page = (ROOT / "docs/usage.md").read_text()
    table = page.partition("| `way_reason` |")[2].partition("\n\n")[0]
    words = re.findall(r"^\| (`.+?`) \|", table, re.M)
    named = re.findall(r"`(\w+)`", " ".join(words))
    assert sorted(named) == sorted(_native.SOCKET_REASONS)


def test_reasons_of_the_engine_are_documented() -> None:
    """The same for the words of `offload_reason`."""
    page = (ROOT / "docs/usage.md").read_text()
    table = page.partition("| `offload_reason` |")[2].partition("\n\n")[0]
    words = re.findall(r"^\| (`.+?`) \|", table, re.M)
    named = re.findall(r"`(\w+)`", " ".join(words))
    assert sorted(named) == sorted(_native.ENGINE_REASONS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_prose_has_one_width(path: Path) -> None:
    """Only what cannot be broken is longer: code, tables, headings and single long words."""
    lines = Page(path.read_text()).prose()
    assert not [line for line in lines if len(line) > COLUMNS and " " in line.strip(" -*")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link names a file of the repository, and a heading that the file has."""
    text = FENCE.sub("", path.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if target.startswith(ELSEWHERE):
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place.is_relative_to(ROOT)
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_exist(path: Path) -> None:
    """Each file that a document names by its path exists."""
    for name in re.findall(rf"`({PLACES}/[\w./*-]*)`", path.read_text()):
        assert list(ROOT.glob(name)), name


def test_promises_are_tested() -> None:
    """Each test that the reliability page names exists."""
    rows = re.findall(r"^\| .+ \|$", (ROOT / "docs/reliability.md").read_text(), re.M)
    promises = [row for row in rows if not row.startswith(("| fault |", "|---"))]
    for row in promises:
        found = re.search(r"`(tests/[\w/]+\.py)::(\w+)` \|$", row)
        assert found, row
        assert f"\ndef {found[2]}(" in (ROOT / found[1]).read_text(), row


def anchors(path: Path) -> set[str]:
    """The names by which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def test_every_document_is_reached() -> None:
    """The README links to every page of docs/."""
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", (ROOT / "README.md").read_text()))
    assert linked == {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}


def test_every_document_is_on_the_site() -> None:
    """`make docs` fails for one that no table of contents has."""
    contents = (ROOT / "docs/site/index.rst").read_text().split()
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert {f"../{page.with_suffix('')}" for page in pages} <= set(contents)

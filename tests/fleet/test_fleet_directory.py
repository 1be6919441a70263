"""Directories of documents: values in their places, one document for each node, every mistake."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr.errors import ConfigError
from mcr.fleet.fleet_directory import read_fleet_directory, read_rules_of
from mcr.fleet.fleet_plan import plan_documents
from mcr.fleet.source import FleetDocument, StoredText
from mcr.fleet.template import render

FEED = "239.1.1.1%{{ node.iface_in }}:5001,name=feed-{{node.name}} to 239.2.0.1%{{ node.out }}:6001"
INVENTORY = """
[ams1]
labels = { site = "ams" }
values = { iface_in = "eth0", out = "eth1", port = 7000 }
[fra1]
labels = { site = "fra", role = "edge" }
values = { iface_in = "ens1", out = "ens2", port = 7001 }
"""


def write(directory: Path, name: str, text: str) -> None:
    """Write a file of the directory."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rules(*texts: str) -> str:
    """A document with these rules."""
    return f"# feeds\nrules = {json.dumps(texts)}\n"


def problems(directory: Path) -> list[str]:
    """The problems of a directory."""
    with pytest.raises(ConfigError) as caught:
        read_fleet_directory(directory)
    return list(map(str, caught.value.problems))


def test_each_node_gets_its_values(tmp_path: Path) -> None:
    """One file for many nodes; a document of several files has the rules of all."""
    write(tmp_path, "nodes.toml", INVENTORY)
    write(tmp_path, "labels/site=ams.toml", rules(FEED))
    write(tmp_path, "labels/role=edge.toml", rules(FEED))
    write(tmp_path, "nodes/fra1.toml", rules("239.1.1.2%{{node.out}}:1 to 10.0.0.1:{{node.port}}"))
    ams, fra = read_fleet_directory(tmp_path)
    assert (ams.name, fra.name) == ("nodes/ams1", "nodes/fra1")
    assert ams.text == rules("239.1.1.1%eth0:5001,name=feed-ams1 to 239.2.0.1%eth1:6001")
    assert [str(rule) for rule in read_rules_of(fra).parsed] == [
        "239.1.1.1%ens1:5001,name=feed-fra1 to 239.2.0.1%ens2:6001",
        "239.1.1.2%ens2:1 to 10.0.0.1:7001",
    ]


def test_without_an_inventory_each_file_is_a_document(tmp_path: Path) -> None:
    """Those of labels are for all nodes that have them."""
    write(tmp_path, "labels/site=ams.toml", rules())
    write(tmp_path, "nodes/ams1.json", '{"rules": ["239.1.1.1%lo:1 to 10.0.0.1:1,ttl=2"]}')
    assert [each.name for each in read_fleet_directory(tmp_path)] == [
        "labels/site=ams",
        "nodes/ams1",
    ]
    write(tmp_path, "labels/site=ams.toml", rules(FEED))
    assert problems(tmp_path) == ["labels/site=ams.toml: values of nodes need nodes.toml"]


def test_every_mistake_is_found_at_once(tmp_path: Path) -> None:
    """Unknown values with their line, rules that are invalid, files for nobody."""
    write(tmp_path, "nodes.toml", INVENTORY)
    write(tmp_path, "labels/site=ams.toml", rules(FEED.replace("node.out", "node.uot")))
    write(tmp_path, "labels/site=fra.toml", rules("239.1.1.1%lo:1 to nowhere"))
    write(tmp_path, "labels/site=lon.toml", rules())
    write(tmp_path, "labels/lon.toml", rules())
    write(tmp_path, "nodes/lon1.toml", rules())
    write(tmp_path, "nodes/fra1.toml", 'include = "x.toml"\n# {{ 1 + 1 }} {{')
    text = "\n".join(problems(tmp_path))
    for expected in (
        "site=ams.toml:2: node.uot is not a value of ams1, which has iface_in, name, out, port",
        "nodes/fra1.toml:2: '{{ 1 + 1 }}' must be such as {{ node.iface_in }}",
        "nodes/fra1.toml:2: '{{' must be such as",
        "labels/site=lon.toml: site=lon is a label of no node in nodes.toml",
        "nodes/lon1.toml: lon1 is not in nodes.toml",
        "labels/lon.toml: the name must be KEY=VALUE",
    ):
        assert expected in text
    write(tmp_path, "nodes/fra1.toml", 'include = "x.toml"\n')
    text = "\n".join(problems(tmp_path))
    assert "labels/site=fra.toml:2, rule 1" in text
    assert "nodes/fra1.toml:1, include: belongs to the main file" in text


@pytest.mark.parametrize(
    ("inventory", "message"),
    [
        ("[", "is not TOML"),
        ("ams1 = 1", "must be a table with labels and values"),
        ("[ams1]\nvalue = {}", "is unknown; a node has labels and values"),
        ("[ams1]\nlabels = 1", "must be a table"),
        ("[ams1]\nlabels = { site = 1 }", "must be a string"),
        ('[ams1]\nlabels = { "a b" = "c" }', "must be 1 to 100 letters"),
        ('["../x"]', "must be 1 to 100 letters"),
        ("[ams1]\nvalues = { on = true }", "must be a string or an integer"),
        ("[ams1]\nvalues = { name = 'x' }", "is the node's own name"),
        ("[ams1]\nvalues = { 'a-b' = 1 }", "must be letters, digits and '_'"),
        ("[ams1]\nvalues = { a = 'x\", \"y' }", "must not have quotes"),
    ],
)
def test_mistakes_of_an_inventory(tmp_path: Path, inventory: str, message: str) -> None:
    """Each names its table and key."""
    write(tmp_path, "nodes.toml", inventory)
    write(tmp_path, "nodes/ams1.toml", rules())
    assert message in "\n".join(problems(tmp_path))


def test_an_empty_directory_is_a_mistake(tmp_path: Path) -> None:
    """It would be one to write nothing."""
    assert "has no nodes/NAME.toml" in problems(tmp_path)[0]


@given(st.text(alphabet="{}node. abc\n1", max_size=60))
def test_hostile_texts_are_rendered_or_refused(text: str) -> None:
    """What is rendered has no place left."""
    try:
        rendered = render("a.toml", text, "n", {"abc": "x", "a": 1})
    except ConfigError:
        assert "{{" in text
    else:
        assert "{{ node" not in rendered
        assert text == rendered or "{{" in text


def test_a_plan_compares_rules() -> None:
    """What the store alone has stays, unless it is pruned; a broken text before is replaced."""
    one, two = "239.1.1.1%lo:1 to 10.0.0.1:1", "239.1.1.2%lo:1 to 10.0.0.1:1"
    wanted = [FleetDocument("nodes/a", rules(one)), FleetDocument("nodes/b", rules(one))]
    stored = [
        StoredText("nodes/a", rules(two), 5),
        StoredText("nodes/b", rules(one), 6),
        StoredText("nodes/c", rules(two), 7),
    ]
    plan = plan_documents(wanted, stored)
    (changed,) = plan.documents
    assert (changed.name, changed.revision) == ("nodes/a", 5)
    assert (changed.added, changed.removed) == ((one,), (two,))
    assert (plan.unchanged, plan.beside) == (("nodes/b",), ("nodes/c",))
    pruned = plan_documents(wanted, stored, prune=True).documents[-1]
    assert (pruned.name, pruned.removed, pruned.text) == ("nodes/c", (two,), "rules = []\n")
    (broken,) = plan_documents(wanted[:1], [StoredText("nodes/a", "[", 1)]).documents
    assert broken.note is not None
    assert broken.added == (one,)

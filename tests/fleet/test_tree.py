"""Trees of relays: everybody is reached, capacities hold, and changes are few."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.own_command import mcr_here

from mcr.errors import ConfigError
from mcr.fleet.node_presence import FORGIVEN_S, NodePresence
from mcr.fleet.tree import (
    Parents,
    TreeError,
    changed_parents,
    depths,
    plan_disjoint_trees,
    plan_tree,
)
from mcr.fleet.tree_file import plan_trees, read_tree_file, tree_documents

CAPACITIES = st.lists(st.integers(0, 5), min_size=1, max_size=40)
SPEC = """
source = "239.80.1.1%lo:5001"
deliver = "239.80.1.2%lo:5001"
port = 5100
fan_out = 2
roots = ["r"]
[nodes.r]
[nodes.a]
address = "127.0.0.2%lo"
[nodes.b]
address = "127.0.0.3%lo"
[nodes.c]
address = "127.0.0.4%lo"
deliver = "239.80.9.9%lo:5001"
"""


def nodes(numbers: list[int]) -> dict[str, int]:
    """Nodes with these capacities; n0 is the root."""
    return {f"n{number}": capacity for number, capacity in enumerate(numbers)}


def check(root: str, capacities: dict[str, int], parents: Parents) -> None:
    """Every node is reached, and none sends to more than it may."""
    assert parents.keys() == capacities.keys() - {root}
    assert depths(root, parents).keys() == capacities.keys()
    sends = [*parents.values()]
    assert all(sends.count(name) <= capacity for name, capacity in capacities.items())


@given(CAPACITIES)
def test_a_tree_exists_if_capacities_suffice(numbers: list[int]) -> None:
    """Their sum decides, unless the root itself may send to nobody."""
    capacities = nodes(numbers)
    suffices = sum(numbers) >= len(numbers) - 1 and (numbers[0] > 0 or len(numbers) == 1)
    if not suffices:
        with pytest.raises(TreeError, match="has no place"):
            plan_tree("n0", capacities)
        return
    check("n0", capacities, plan_tree("n0", capacities))


@given(st.integers(1, 6), st.integers(1, 150))
def test_a_tree_is_as_low_as_it_can_be(fan_out: int, size: int) -> None:
    """The nodes of a level are used up before the next one."""
    parents = plan_tree("n0", nodes([fan_out] * size))
    height, reached, level = 0, 1, 1
    while reached < size:
        height, level = height + 1, level * fan_out
        reached += level
    assert max(depths("n0", parents).values()) == height


@given(st.integers(2, 4), st.integers(4, 60), st.data())
def test_a_death_moves_only_those_below_it(fan_out: int, size: int, data: st.DataObject) -> None:
    """Its children; and nobody who has a parent is moved when it comes back."""
    capacities = nodes([fan_out] * size)
    before = plan_tree("n0", capacities)
    dead = data.draw(st.sampled_from(sorted(capacities.keys() - {"n0"})))
    left = {name: capacity for name, capacity in capacities.items() if name != dead}
    after = plan_tree("n0", left, before)
    check("n0", left, after)
    orphans = {name for name, parent in before.items() if parent == dead}
    assert set(changed_parents(before, after)) == {dead, *orphans}
    returned = plan_tree("n0", capacities, after)
    check("n0", capacities, returned)
    assert changed_parents(after, returned) == (dead,)


@given(st.integers(2, 5), st.integers(6, 60), st.data())
def test_two_trees_share_no_sender(fan_out: int, size: int, data: st.DataObject) -> None:
    """One death costs any other node at most one of its copies, also after a change."""
    capacities = nodes([fan_out] * size)
    trees = plan_disjoint_trees(("n0", "n1"), capacities)

    def check_both(trees: tuple[Parents, Parents], capacities: dict[str, int]) -> None:
        for number, root in enumerate(("n0", "n1")):
            other = f"n{1 - number}"
            check(root, {n: c for n, c in capacities.items() if n != other}, trees[number])
        assert not set(trees[0].values()) & set(trees[1].values())

    check_both(trees, capacities)
    dead = data.draw(st.sampled_from(sorted(capacities.keys() - {"n0", "n1"})))
    left = {name: capacity for name, capacity in capacities.items() if name != dead}
    check_both(plan_disjoint_trees(("n0", "n1"), left, trees), left)
    with pytest.raises(TreeError, match="two roots"):
        plan_disjoint_trees(("n0", "n0"), capacities)


def test_a_tree_that_is_full_or_wrong_is_planned_again() -> None:
    """A new node needs a place; a circle is none."""
    full = {"a": "r", "b": "a"}
    after = plan_tree("r", {"r": 1, "a": 1, "b": 0, "c": 5}, full)
    check("r", {"r": 1, "a": 1, "b": 0, "c": 5}, after)
    circle = {"a": "b", "b": "a"}
    check("r", {"r": 2, "a": 2, "b": 2}, plan_tree("r", {"r": 2, "a": 2, "b": 2}, circle))


def run(*words: str | Path) -> str:
    """The output of the command."""
    run = mcr_here("fleet", "tree", *words)
    assert run.code == 0, run.err
    return run.out


def test_the_command_writes_documents(tmp_path: Path) -> None:
    """A rule for each node, and after a death the fewest changes."""
    spec, directory = tmp_path / "tree.toml", tmp_path / "fleet"
    spec.write_text(SPEC)
    assert run(spec, directory) == "r\n  a\n    c\n  b\n3 nodes move\n"
    text = {path.stem: path.read_text() for path in (directory / "nodes").iterdir()}
    assert '"239.80.1.1%lo:5001 to 127.0.0.2:5100 127.0.0.3:5100"' in text["r"]
    assert '"127.0.0.2%lo:5100 to 127.0.0.4:5100 239.80.1.2%lo:5001"' in text["a"]
    assert '"127.0.0.4%lo:5100 to 239.80.9.9%lo:5001"' in text["c"]
    assert run(spec, directory, "--without", "a") == "r\n  b\n  c\n2 nodes move\n"
    assert (directory / "nodes" / "a.toml").read_text() == "rules = []\n"
    assert run(spec, directory) == "r\n  b\n    a\n  c\n1 nodes move\n"
    (directory / "tree.json").write_text("{")
    broken = mcr_here("fleet", "tree", spec, directory)
    assert (broken.code, broken.err.count("\n")) == (1, 1)
    assert "tree.json has no trees" in broken.err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fan_out = 2", "fan_out = 0", "fan_out: must be at least 1"),
        ('roots = ["r"]', 'roots = ["x"]', "x is not in nodes"),
        ('roots = ["r"]', "roots = []", "must name one node"),
        ("port = 5100", "prot = 5100", "prot is unknown"),
        ("port = 5100", "port = 0", "port: must be 1 to 65535"),
        ('address = "127.0.0.2%lo"', "", "nodes, a, address: is needed"),
        ("[nodes.a]", "[nodes.'a/b']", "must be 1 to 100 letters"),
        ("[nodes.a]", "[nodes.a]\nfan = 1", "nodes.a: fan is unknown"),
        ("[nodes.a]", "[nodes.a", "tree: "),
    ],
)
def test_mistakes_of_the_file(old: str, new: str, message: str) -> None:
    """Each names its key."""
    assert old in SPEC
    with pytest.raises(ConfigError) as caught:
        read_tree_file(SPEC.replace(old, new).encode())
    assert message in str(caught.value)


def two_trees(merge: str = "") -> str:
    """The file of two trees, whose roots are r and s."""
    text = SPEC.replace('roots = ["r"]', f'roots = ["r", "s"]\n{merge}')
    return text + '[nodes.s]\n[nodes.d]\naddress = "127.0.0.5%lo"\n'


def test_two_trees_are_merged_where_they_end() -> None:
    """One rule delivers both; what a node passes on in a tree is not merged."""
    file = read_tree_file(two_trees('merge = "rtp"').encode())
    trees = plan_trees(file)
    texts = {each.name.partition("/")[2]: each.text for each in tree_documents(file, trees)}
    for name in "abcd":
        address = file.nodes[name].address
        merged = f"{address}:5100 + {address}:5101,merge=rtp to "
        assert texts[name].count(merged) == 1
        assert texts[name].count(" to ") == 1 + any(name in each.values() for each in trees)
    assert "merge" not in texts["r"] + texts["s"]
    with pytest.raises(ConfigError, match="needs two roots"):
        read_tree_file(SPEC.replace("fan_out", 'merge = "rtp"\nfan_out').encode())


def test_a_root_may_die() -> None:
    """Of two, then its tree is empty and the other stays; the last one cannot be left out."""
    file = read_tree_file(two_trees().encode())
    before = plan_trees(file)
    after = plan_trees(file, before, ["r"])
    assert after == ({}, before[1])
    assert plan_trees(file, after)[1] == before[1]
    for text, dead in ((SPEC, ["r"]), (two_trees(), ["r", "s"])):
        with pytest.raises(TreeError, match="cannot be left out"):
            plan_trees(read_tree_file(text.encode()), (), dead)


def test_a_node_is_dead_after_a_while_and_back_after_a_while() -> None:
    """A short silence is none."""
    presence = NodePresence("ab", now_s=0, dead_after_s=30, back_after_s=60)
    assert not presence.judge({"a"}, 0)
    assert not presence.judge({"a"}, 29)
    assert not presence.judge({"a", "b"}, 29.5)
    assert not presence.judge({"a"}, 31)
    assert presence.judge({"a"}, 61) == {"b"}
    assert presence.judge({"a", "b"}, 62) == {"b"}
    assert presence.judge({"a", "b"}, 121) == {"b"}
    assert not presence.judge({"a", "b"}, 122)
    presence.judge({"a"}, 200)
    presence.begin_again(229)
    assert not presence.judge({"a"}, 231)


@given(st.lists(st.floats(1, 600), min_size=1, max_size=200), st.floats(1, 60))
def test_a_tree_does_not_follow_a_node_that_comes_and_goes(
    spans: list[float], dead_after_s: float
) -> None:
    """However it does: in an hour at most seven deaths count."""
    presence = NodePresence("a", now_s=0, dead_after_s=dead_after_s, back_after_s=30)
    now_s, was_dead, deaths = 0.0, False, []
    for number, span_s in enumerate(spans):
        for _ in range(20):
            is_dead = bool(presence.judge(set("a" if number % 2 else ""), now_s))
            if is_dead and not was_dead:
                deaths.append(now_s)
            was_dead = is_dead
            now_s += span_s / 20
    for first in deaths:
        assert sum(first <= each < first + FORGIVEN_S for each in deaths) <= 7

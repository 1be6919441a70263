"""Configuration files: what they say, every mistake in them, and that what is written is read."""

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.documents import Page
from tests.support.strategies import INTERFACES, KERNEL_INTERFACES, merging_rules
from tests.support.strategies import rules as any_rules

from mcr.config import schema
from mcr.config.document import FileContent
from mcr.config.lines import lines_of
from mcr.config.reader import Configuration, read_files
from mcr.config.writer import WrittenRule, write_toml
from mcr.errors import ConfigError, Problem, RuleError

ROOT = Path(__file__).parents[1]
RULE = "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"
NAMES = INTERFACES | KERNEL_INTERFACES
PAIR = "239.1.1.1%eth0:5001 + 239.1.1.2%eth1:5001,name=pair,merge=rtp,late=drop to 192.0.2.7:7000"
SETTINGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "socket": st.just("/run/mcr/mcr.sock"),
        "workers": st.integers(1, 256),
        "cpus": st.sampled_from(["0", "0,2-3"]),
        "ingress": st.sampled_from(["auto", "packet", "udp"]),
        "flows": st.booleans(),
        "expect": st.just("2s"),
    },
)


def read(*texts: str) -> Configuration:
    """The configuration of a main file and included ones."""
    return read_files([FileContent(f"{at}.toml", text.encode()) for at, text in enumerate(texts)])


def rules_of(*texts: str) -> list[tuple[str, bool]]:
    """The canonical texts of its rules, and which are enabled."""
    configuration = read(*texts)
    enabled = [wanted.enabled for wanted in configuration.rules]
    return list(zip(map(str, configuration.parsed), enabled, strict=True))


def problems(*texts: str) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        assert read(*texts).parsed
    return [str(problem) for problem in caught.value.problems]


@given(
    SETTINGS,
    st.lists(st.tuples(any_rules(NAMES) | merging_rules(NAMES), st.booleans()), max_size=5),
)
def test_what_is_written_is_read(settings: dict[str, Any], rules: list[tuple[Any, bool]]) -> None:
    """Settings, rules of every kind, and which of them are enabled."""
    comments = ["a \x00 b\n#"]
    text = write_toml(settings, (WrittenRule(*each, comments) for each in rules), comments)
    configuration = read(text)
    assert configuration.settings == settings
    assert configuration.parsed == tuple(rule for rule, _ in rules)
    assert [wanted.enabled for wanted in configuration.rules] == [each for _, each in rules]
    lines = lines_of(text, is_json=False)
    written = text.splitlines()
    for position in range(len(rules)):
        assert written[lines["rules", position] - 1].startswith('  "') or "{" in text


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_read_or_refused(content: bytes) -> None:
    """In words, whatever it contains."""
    assert_read_or_refused(content)


def assert_read_or_refused(content: bytes) -> None:
    """Each problem has a place."""
    told: tuple[Problem, ...] = ()
    try:
        assert read_files([FileContent("mcr.toml", content)]).parsed is not None
    except ConfigError as error:
        told = error.problems
    assert all(str(problem).startswith("mcr.toml:") for problem in told)


def test_a_damaged_file_is_read_or_refused() -> None:
    """Each time with the place of what is wrong."""
    whole = FULL.encode()
    draw = random.Random(1)
    for _ in range(300):
        at = draw.randrange(len(whole))
        byte = bytes([draw.choice(b'"[]{}=,.\n\\#x1\xff')])
        assert_read_or_refused(whole[:at] + byte + whole[at + 1 :])


FULL = """
include = ["conf.d/*.toml"]
daemon = { workers = 2, ingress = "udp" }

[defaults]
enabled = false
expect = "2s"
input = { interface = "eth0" }
output.interface = "eth1"
output.ttl = 8

[[rules]]
rule = "239.1.1.1:5001,name=a to 239.2.0.1:6001 192.0.2.7:7000,ttl=9"
enabled = true

[[rules]]
for = { n = "8-10", where = ["x", "y", "z"] }
rule = "239.1.1.{n}:5001,name={where}-{n:2} to 239.2.0.{n}:{n+6000}"

[[rules]]
name = "b"
expect = "none"
input = { address = "239.1.2.1", port = 1, sources = ["10.0.0.1"] }
outputs = ["239.2.2.1:1", { address = "192.0.2.7", port = 7, dscp = 46 }]
"""


def test_defaults_fill_in_what_rules_leave_out() -> None:
    """Copies to hosts stay routed, what a rule says wins, and included files have their own."""
    assert rules_of(FULL, f'rules = ["{RULE}"]') == [
        (
            "239.1.1.1%eth0:5001,name=a,expect=2s to 239.2.0.1%eth1:6001,ttl=8"
            " 192.0.2.7:7000,ttl=9",
            True,
        ),
        *(
            (
                f"239.1.1.{n}%eth0:5001,name={where}-{n:02},expect=2s to"
                f" 239.2.0.{n}%eth1:{n + 6000},ttl=8",
                False,
            )
            for n, where in zip((8, 9, 10), "xyz", strict=True)
        ),
        (
            "10.0.0.1@239.1.2.1%eth0:1,name=b,expect=none to 239.2.2.1%eth1:1,ttl=8"
            " 192.0.2.7:7,ttl=8,dscp=46",
            False,
        ),
        (RULE, True),
    ]
    assert read(FULL).settings == {"workers": 2, "ingress": "udp"}


def test_several_inputs_are_an_array() -> None:
    """Each as text or as a table, with the defaults of the file."""
    first, second = "239.1.1.1%eth0:5001", "239.1.1.2%eth1:5001"
    table = """
[defaults]
input.interface = "eth0"
[[rules]]
name = "pair"
inputs = [INPUTS]
merge = "rtp"
late = "drop"
outputs = ["192.0.2.7:7000"]
"""
    for inputs in (
        f'"{first}", "{second}"',
        '"239.1.1.1:5001", { address = "239.1.1.2", port = 5001, interface = "eth1" }',
    ):
        assert rules_of(table.replace("INPUTS", inputs)) == [(PAIR, True)]
    text = PAIR.replace("merge=rtp,late=drop", "merge=mold")
    beside = f'rules = [{{ rule = "{text}", merge = "rtp", late = "drop" }}]'
    assert rules_of(beside) == [(PAIR, True)]


def test_every_mistake_is_told_with_its_place() -> None:
    """File, line, key, the name of the rule, and a suggestion."""
    assert problems(
        f"""
include = ["../secret.toml"]
daemon.worker = 2
daemon.ingress = "raw"
daemon.socket = "mcr.sock"
rules = [
  "239.1.1.1%eth0:5001,name=feed-a to 239.2.0.1%eth1:6001,ttl=300",
  {{ rule = "{RULE}", enabld = false }},
  {{ name = "x", input = {{ address = "239.1.1.1", prot = 1 }}, outputs = [] }},
  {{ for = {{ n = "1-3" }}, rule = "239.1.1.{{m}}%eth0:1 to 192.0.2.7:7" }},
  7,
]
defaults.output.tll = 8
""",
        "daemon.workers = 1\nrules = [",
        "daemon.workers = 1",
    ) == [
        "0.toml:2, include 1: '../secret.toml' is no pattern of .toml or .json files below the"
        ' directory of this file; write such as include = "conf.d/*.toml"',
        "0.toml:3, daemon, worker: is not known; did you mean 'workers'?",
        "0.toml:4, daemon, ingress: must be 'auto' or 'packet' or 'udp', not 'raw'",
        "0.toml:5, daemon, socket: 'mcr.sock' must be the absolute path of a file, such as"
        " /run/mcr/mcr.sock",
        "0.toml:7, rule 1 (feed-a), output 1, ttl: 300 is out of range: 1 to 255",
        "0.toml:8, rule 2, enabld: is not known; did you mean 'enabled'?",
        "0.toml:9, rule 3 (x), input, prot: is not known; did you mean 'port'?",
        "0.toml:9, rule 3 (x), input, port: is missing",
        "0.toml:10, rule 4 for n = 1, rule: '{m}' is no name of for, which has n (and 2 more of"
        " these rules)",
        '0.toml:11, rule 5: must be a string or a table, not 7; write "INPUT to OUTPUT", or a'
        " table with input and outputs",
        "0.toml:13, defaults, output, tll: is not known; did you mean 'ttl'?",
        "1.toml:2: is neither TOML nor JSON: Invalid value (at end of document); write rules ="
        ' ["A to B", "C to D"]',
        "2.toml:1, daemon: belongs to the main file; move it there",
    ]


def test_a_mistake_in_a_repeated_rule_names_the_element() -> None:
    """The value, the output, the key and its line; what all of them share is told once."""
    assert problems(
        """
[[rules]]
for = { n = "254-257" }
rule = "239.1.1.{n}%eth0:5001,name=channel-{n} to 192.0.2.7:7000 239.2.1.1%eth1:{n+65280}"

[[rules]]
for = { port = [7001, 70000], where = ["x", "y"] }
name = "feed-{where}"
input = "239.1.3.1%eth0:{port-2000}"
outputs = [
  "192.0.2.7:7001",
  { address = "192.0.2.7", port = "{port}", ttl = 0 },
]

[[rules]]
for = { n = ["a", 2] }
input = "239.1.4.1%eth0:5001"
outputs = ["192.0.2.7:1", "192.0.2.8:{n+1}"]
"""
    ) == [
        "0.toml:4, rule 1 (channel-256) for n = 256, input, group: '239.1.1.256' is not an IP"
        " address",
        "0.toml:4, rule 1 (channel-256) for n = 256, output 2, port: 65536 is out of range: 1 to"
        " 65535",
        "0.toml:4, rule 1 (channel-257) for n = 257, input, group: '239.1.1.257' is not an IP"
        " address",
        "0.toml:4, rule 1 (channel-257) for n = 257, output 2, port: 65537 is out of range: 1 to"
        " 65535",
        "0.toml:9, rule 2 (feed-y) for port = 70000 and where = y, input, port: 68000 is out of"
        " range: 1 to 65535",
        "0.toml:12, rule 2 (feed-x) for port = 7001 and where = x, output 2, ttl: 0 is out of"
        " range: 1 to 255 (and 1 more of these rules)",
        "0.toml:12, rule 2 (feed-y) for port = 70000 and where = y, output 2, port: 70000 is out"
        " of range: 1 to 65535",
        "0.toml:18, rule 3 for n = a, output 2: '{n+1}' needs a number, and n is 'a'",
    ]


def test_a_conflict_with_a_repeated_rule_names_both_elements() -> None:
    """By their places in the files, not by their numbers among all rules."""
    repeated = '[[rules]]\nfor = { n = "1-3" }\nrule = "239.1.1.{n}%eth0:1 to 192.0.2.7:7"\n'
    configuration = read(repeated, 'rules = ["239.1.9.9%eth0:1 to 192.0.2.7:7"]')
    refusal = RuleError([(("rule", 4), "is the same as rule 2"), ("", "no place")])
    assert [str(each) for each in configuration.error(refusal).problems] == [
        "1.toml:1, rule 1: is the same as rule 1 for n = 2 of 0.toml",
        "no place",
    ]


@pytest.mark.parametrize("text", ["", f'rules = ["{RULE}"]'])
@pytest.mark.parametrize("number", ["0", "2", "9" * 5000, "\u0661"])
def test_a_daemon_that_names_no_rule_of_the_file(text: str, number: str) -> None:
    """A problem that it has under any number is told as it is."""
    refusal = RuleError([(f"rule {number}, output 0", "is told by rule 99")])
    found = read(text).error(refusal).problems
    assert [str(each) for each in found] == [f"rule {number}, output 0: is told by rule 99"]


TWO = "inputs = ['239.1.1.1%a:1', '239.1.1.2%a:1'"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('for = {}, rule = "x"', "for: must be a table that gives names their values"),
        ('for = { n = "9-1" }, rule = "x"', "for: n: '9-1' is in reverse order; write 1-9"),
        ('for = { n = "1-99999" }, rule = "x"', "for: n: '1-99999' has more than 50000 values"),
        ('for = { n = [] }, rule = "x"', "for: n: must be a range or an array"),
        ('for = { n = "1-2", m = [1] }, rule = "x"', "needs as many values for each name"),
        ('for = { n = ["a"] }, rule = "{n+1}"', "'{n+1}' needs a number, and n is 'a'"),
        ('for = { "1" = [1] }, rule = "x"', "'1' is no name"),
        ('rule = "x", outputs = []', "rule: cannot stand beside input and outputs"),
        ("enabled = true", "has neither rule nor both input and outputs"),
        (f'rule = "{RULE}", enabled = 1', "enabled: must be true or false, not 1"),
        ("rule = 1", "rule: must be a string or a table, not 1"),
        ('input = "239.1.1.1%a:1", outputs = 1', "outputs: must be an array"),
        ('inputs = [], outputs = ["h:1"]', "inputs: must be an array of inputs"),
        ('inputs = "x", outputs = ["h:1"]', "inputs: must be an array of inputs"),
        ('input = "x", inputs = ["x"], outputs = []', "inputs: cannot stand beside input"),
        (f"{TWO}, {{ address = 'x', prt = 1 }}], outputs = []", "input 3, prt: is not known"),
        (f"{TWO}, '239.1.1.3%a:0'], outputs = ['h:1']", "input 3, port: 0 is out of range"),
        (f"{TWO}], outputs = ['h:1']", "merge: is missing; write merge=rtp"),
        (f"{TWO}], merge = ['rtp'], outputs = ['h:1']", "merge: must be rtp, mold, hash"),
        (f"{TWO}], merge = 'rtp', after = '1s', outputs = ['h:1']", "after: needs merge=failover"),
        (f"{TWO}], merge = 'failover', after = 5, outputs = ['h:1']", "after: must be a time"),
        (f"{TWO}], merge = 'failover', late = 'drop', outputs = ['h:1']", "late: needs numbers"),
        (f"{TWO}], merge = 'rtp', late = 1, outputs = ['h:1']", "late: must be 'send' or 'drop'"),
        (f"{TWO}, 1], outputs = ['h:1']", "input 3: must be a string or a table, not 1"),
        ("input = '239.1.1.1%a:1', merge = 'rtp', outputs = ['h:1']", "merge: needs several"),
        ("input = 1, outputs = [1]", "output 1: must be a string or a table, not 1"),
    ],
)
def test_a_wrong_rule_is_refused(given: str, told: str) -> None:
    """In one sentence that names the fix."""
    found = problems(f"rules = [{{ {given} }}]")
    assert any(told in each for each in found), found


def test_lines_of_toml_are_found() -> None:
    """Of tables in arrays, dotted keys, and values over several lines."""
    text = '''
[[a]]
x = """1
2"""
[a.b]
"c.d" = [
  1, # one
  { e = 2 },
]
[[a]]
[[a.f]]
g.h = 1
'''
    lines = lines_of(text, is_json=False)
    assert {path: line for path, line in lines.items() if path[-1:] != ("a",) and path} == {
        ("a", 0): 2,
        ("a", 0, "x"): 3,
        ("a", 0, "b"): 5,
        ("a", 0, "b", "c.d"): 6,
        ("a", 0, "b", "c.d", 0): 7,
        ("a", 0, "b", "c.d", 1): 8,
        ("a", 0, "b", "c.d", 1, "e"): 8,
        ("a", 1): 10,
        ("a", 1, "f"): 11,
        ("a", 1, "f", 0): 11,
        ("a", 1, "f", 0, "g", "h"): 12,
    }
    assert lines_of('{"a": [1,\n{"b": "x"}]}', is_json=True)["a", 1, "b"] == 2


def test_the_schema_accepts_what_is_read() -> None:
    """It is the file in docs/, and refuses what the reader refuses by the form alone."""
    assert (ROOT / "docs/configuration.schema.json").read_text() == schema.text()
    validate = fastjsonschema.compile(schema.schema())
    texts = [FULL, *Page.read("docs/configuration.md").blocks("toml")]
    texts += [path.read_text() for path in (ROOT / "examples").glob("*.toml")]
    for text in texts:
        assert read(text).parsed
        validate(tomllib.loads(text))
    validate(json.loads(json.dumps({"rules": [RULE]})))
    wrongs: list[object] = [{"rule": []}, {"daemon": {"workers": "2"}}]
    for wrong in (*wrongs, {"rules": [{"enabled": True}]}):
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            validate(wrong)

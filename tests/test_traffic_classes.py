"""Classes of traffic and rates of interfaces as values, in rule text and in configurations."""

import pytest
from tests.support.fake_host import HOST

import mcr
from mcr.config.document import FileContent
from mcr.config.reader import Configuration, read_files
from mcr.config.writer import WrittenRule, write_toml
from mcr.daemon.control.rules.shaping_merge import changed_names, merged_shaping
from mcr.rules.edit import RuleEdit
from mcr.rules.hostnames import HostResolver
from mcr.rules.objects import object_from_rule, rule_from_object
from mcr.rules.ruleset import RuleSet

TEXT = "239.1.1.1%eth0:5001,class=live to 239.2.0.1%eth1:6001"
PLAIN = TEXT.replace(",class=live", "")
LIVE = mcr.TrafficClass("live", priority=7)


def configuration(text: str) -> Configuration:
    """A configuration file."""
    return read_files([FileContent("mcr.toml", text.encode())])


def test_a_rule_names_its_class() -> None:
    """In text, as an object and as an argument; it is not a part of the identity."""
    rule = mcr.Rule.parse(TEXT)
    assert rule.traffic_class == "live"
    assert str(rule) == TEXT
    assert mcr.Rule.parse(PLAIN).traffic_class is None
    assert rule.id == mcr.Rule.parse(PLAIN).id
    assert rule != mcr.Rule.parse(PLAIN)
    members = object_from_rule(rule)
    assert members["class"] == "live"
    assert rule_from_object(members) == rule
    assert mcr.Rule(rule.input, rule.outputs, traffic_class="live") == rule


@pytest.mark.parametrize("name", ["", "two words", "a" * 33, "a,b", "café"])
def test_names_of_classes_are_checked(name: str) -> None:
    """The message names the field."""
    rule = mcr.Rule.parse(PLAIN)
    with pytest.raises(mcr.RuleError, match=r"^class: "):
        mcr.Rule(rule.input, rule.outputs, traffic_class=name)


def test_values_out_of_their_range_are_refused() -> None:
    """All of one value at once."""
    with pytest.raises(mcr.RuleError) as caught:
        mcr.TrafficClass("live", priority=8, weight=0)
    assert [each.field for each in caught.value.problems] == ["priority", "weight"]
    for rate, burst, field in (("1kbit/s", None, "rate"), ("1mbit", 5, "burst")):
        with pytest.raises(mcr.RuleError) as caught:
            mcr.InterfaceRate("eth1", rate, burst)
        assert [each.field for each in caught.value.problems] == [field]
    assert mcr.InterfaceRate("eth1", "1000kbit").rate == "1mbit"
    many = [mcr.TrafficClass(f"c{number}") for number in range(16)]
    with pytest.raises(mcr.RuleError, match="classes: there are more than 16; remove some"):
        mcr.Shaping.of(many)


def test_a_class_that_is_not_defined_is_refused() -> None:
    """One sentence with the field, the fix and the classes there are."""
    with pytest.raises(mcr.RuleError) as caught:
        mcr.Relay(TEXT).open()
    (problem,) = (each for each in caught.value.problems if each.field == "rule 1, class")
    assert problem.message == (
        "'live' is not defined; define it first ([classes.live] in the configuration, or"
        " 'mcr class set live'), or write one of: default"
    )


def test_a_class_in_use_stays() -> None:
    """Neither a relay that is open nor one that is not removes it."""
    relay = mcr.Relay(TEXT, classes=[LIVE])
    with pytest.raises(mcr.RuleError, match=r"'live' is in use by rule [0-9a-f]{12}; give"):
        relay.remove_class("live")
    relay.remove_rule(mcr.Rule.parse(TEXT))
    relay.remove_class("live")
    assert [*relay.shaping.classes] == ["default"]
    with pytest.raises(mcr.RuleError, match="class: there is no class 'live'; the classes are"):
        relay.remove_class("live")
    with pytest.raises(mcr.RuleError, match="interface: 'eth1' has no rate"):
        relay.remove_interface_rate("eth1")


def test_an_interface_that_does_not_exist_is_a_warning() -> None:
    """Given to a relay, or set while it relays; each once, and not where there is one."""
    given, later = mcr.InterfaceRate("nowhere8", "1mbit"), mcr.InterfaceRate("nowhere9", "1mbit")
    rule = "239.79.1.3%lo:5079 to 127.0.0.1:7079"
    with mcr.Relay(rule, ingress="udp", interface_rates=[given]) as relay:

        def named() -> list[str]:
            found = [each for each in relay.warnings if "nowhere" in each]
            assert all(each.endswith("; its rate holds once it exists") for each in found)
            return [each.partition("; ")[0] for each in found]

        assert named() == ["interface, nowhere8: there is no interface 'nowhere8'"]
        relay.set_interface_rate(mcr.InterfaceRate("lo", "1mbit"))
        relay.set_interface_rate(later)
        assert named()[1:] == ["interface, nowhere9: there is no interface 'nowhere9'"]
        relay.remove_interface_rate("nowhere8")
        assert sorted(relay.shaping.rates) == ["lo", "nowhere9"]


def test_the_default_class_can_change_and_stays() -> None:
    """Removing it gives it its usual values again."""
    changed = mcr.Shaping().with_class(mcr.TrafficClass("default", priority=5))
    assert changed.classes["default"].priority == 5
    assert changed.without_class("default") == mcr.Shaping()


def test_an_edit_changes_the_class_and_nothing_else() -> None:
    """The id, the outputs and their specifications stay."""
    rules, host = RuleSet("packet"), HOST
    shaping = mcr.Shaping.of([LIVE])
    rules.commit(rules.plan(host, add=[PLAIN], names=HostResolver(), shaping=shaping))
    (before,) = rules.active
    edit = RuleEdit.of("class=live")
    rules.commit(rules.plan_edit(host, before.id, edit, HostResolver()))
    (after,) = rules.active
    assert (after.id, after.rule.traffic_class, after.specs) == (before.id, "live", before.specs)
    with pytest.raises(mcr.RuleError, match="class: 'gold' is not defined"):
        rules.plan_edit(host, before.id, RuleEdit.of("class=gold"), HostResolver())
    with pytest.raises(mcr.RuleError, match="class: 'live' is in use"):
        rules.plan(host, shaping=mcr.Shaping())


def test_a_configuration_has_classes_and_rates() -> None:
    """Written and read again it is the same."""
    text = (
        f'rules = ["{TEXT}", {{rule = "{PLAIN.replace("5001", "5002")}", class = "live"}}]\n'
        "[classes.live]\npriority = 7\n[classes.default]\nweight = 2\n"
        '[interfaces."eth1.7"]\nrate = "100mbit"\nburst = 70000\n'
    )
    found = configuration(text)
    assert found.shaping.classes["live"] == LIVE
    assert found.shaping.classes["default"] == mcr.TrafficClass("default", weight=2)
    rate = mcr.InterfaceRate("eth1.7", "100mbit", 70000)
    assert found.shaping.rates == {"eth1.7": rate}
    assert [rule.traffic_class for rule in found.parsed] == ["live", "live"]
    written = write_toml({}, map(WrittenRule, found.parsed), shaping=found.shaping)
    again = configuration(written)
    assert (again.parsed, again.shaping) == (found.parsed, found.shaping)


def test_mistakes_in_classes_have_their_places() -> None:
    """All of them, with file and line."""
    text = (
        '[classes."two words"]\n\n[classes.live]\npriority = 9\ncolour = 1\n'
        '[interfaces.eth1]\nburst = 3\n[interfaces.eth2]\nrate = "fast"\n'
    )
    with pytest.raises(mcr.McrError) as caught:
        configuration(text)
    lines = str(caught.value)
    for part in (
        "mcr.toml:1, classes, two words",
        "mcr.toml:4, classes, live, priority: 9 is out of range: 0 to 7",
        "mcr.toml:5, classes, live, colour: is not known",
        "interfaces, eth1, rate: is missing",
        "mcr.toml:9, interfaces, eth2, rate: must be bits or datagrams a second",
    ):
        assert part in lines, lines


def test_a_configuration_and_what_changed_at_run_time() -> None:
    """What clients have added or changed stays, unless it is pruned."""
    gold = mcr.TrafficClass("gold", weight=3)
    file = mcr.Shaping.of([LIVE, gold], [mcr.InterfaceRate("eth1", "1mbit")])
    now = file.with_class(mcr.TrafficClass("live", priority=6)).with_class(mcr.TrafficClass("own"))
    wanted = mcr.Shaping.of([LIVE], [mcr.InterfaceRate("eth1", "2mbit")])
    merged = merged_shaping(file, now, wanted, prune=False)
    assert merged is not None
    assert {each: one.priority for each, one in merged.classes.items()} == {
        "default": 3,
        "live": 6,
        "own": 3,
    }
    assert merged.rates["eth1"].rate == "2mbit"
    assert merged_shaping(file, now, wanted, prune=True) == wanted
    assert merged_shaping(file, now, None, prune=True) is None
    assert changed_names(now, merged) == (("gold",), ("eth1",))

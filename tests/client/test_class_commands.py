"""The commands `mcr class ...` and `mcr interface ...`, against the real control process."""

import pytest
from tests.support.fake_supervisor import FakeSupervisor

import mcr

from .test_commands import Command, command, proxied_command

__all__ = ["command", "proxied_command"]

RULE = "239.1.1.1%lo:5001,name=A01,class=live to 127.0.0.1:7001"


@pytest.fixture(autouse=True)
def no_classes(control: FakeSupervisor) -> None:
    """Control has neither rules nor classes nor rates of an earlier test."""
    with mcr.Client(control.path) as client:
        client.replace_rules([])
        known = client.shaping()
        client.change_shaping(
            classes={each.name: None for each in known.classes},
            interfaces={each.interface: None for each in known.interfaces},
        )


def test_classes_are_set_listed_and_removed(command: Command) -> None:
    """What is not given stays, and a class in use is not removed."""
    assert "default  3         1       0" in command("class", "list")
    command("class", "set", "live", "--priority", "7")
    command("class", "set", "live", "--weight", "4")
    command("rule", "add", RULE)
    listed = command("class", "list").splitlines()
    assert listed[1].split() == ["live", "7", "4", "1"]
    command("class", "remove", "live", code=2)
    assert "class: 'live' is in use by rule A01; give its rules another class" in command.err
    command("rule", "edit", "A01", "--set", "class=default")
    assert command.json("class", "list")["classes"][0]["rules"] == 0
    command("class", "remove", "live")
    assert [each["name"] for each in command.json("class", "list")["classes"]] == ["default"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("class", "set", "live", "--priority", "8"), "class, live, priority: 8 is out of range"),
        (("class", "set", "two words"), "class, two words: 'two words' is not a name of a class"),
        (("class", "remove", "live"), "class, live: there is no class 'live'"),
        (("interface", "rate", "lo", "fast"), "interface, lo, rate: must be bits or datagrams"),
        (("interface", "rate", "lo", "none"), "interface, lo: 'lo' has no rate"),
        (("rule", "add", RULE), "rule 1, class: 'live' is not defined; define it first"),
    ],
)
def test_mistakes_get_one_sentence(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    """It names the field, and nothing has changed."""
    before = command.json("class", "list")
    command(*arguments, code=2)
    assert message in command.err
    assert command.json("class", "list") == before


def test_an_interface_has_a_rate(command: Command, control: FakeSupervisor) -> None:
    """Shown in canonical text; a dry run changes nothing; the configuration has it."""
    command("interface", "rate", "lo", "1000kbit", "--burst", "70000")
    assert "lo: 1mbit, burst 70000" in command("class", "list")
    command("interface", "rate", "lo", "5mbit", "--dry-run")
    assert command.json("class", "list")["interfaces"][0]["rate"] == "1mbit"
    shown = command("config", "show")
    assert '[interfaces."lo"]\nrate = "1mbit"\nburst = 70000' in shown
    command("interface", "rate", "lo", "none")
    assert command.json("class", "list")["interfaces"] == []
    with mcr.Client(control.path) as client:
        with pytest.raises(mcr.ConflictError):
            client.change_shaping(classes={"live": {}}, expected_revision=10**6)
        assert client.shaping().as_shaping() == mcr.Shaping()


def test_an_interface_that_does_not_exist_is_a_warning(
    command: Command, control: FakeSupervisor
) -> None:
    """The rate is accepted, as the interface may come later; other changes do not warn again."""
    command("interface", "rate", "nowhere9", "10mbit", "--dry-run")
    warned = command.err
    assert warned.startswith("warning: interface, nowhere9: there is no interface 'nowhere9'; ")
    assert warned.endswith("; its rate holds once it exists\n")
    assert "nowhere9: 10mbit" in command("interface", "rate", "nowhere9", "10mbit")
    assert command.err == warned
    for arguments in (("rate", "lo", "1mbit"), ("rate", "nowhere9", "none")):
        command("interface", *arguments)
        assert command.err == ""
    with mcr.Client(control.path) as client:
        changed = client.change_shaping(interfaces={"nowhere9": {"rate": "1mbit"}})
        assert [f"warning: {each}\n" for each in changed.warnings] == [warned]
        assert client.shaping().warnings == ()


def test_statistics_have_the_classes(command: Command, control: FakeSupervisor) -> None:
    """In the report and in JSON, once there is one."""
    command("rule", "add", RULE.replace(",class=live", ""))
    assert command.json("stats")["classes"] == []
    command("class", "set", "live", "--priority", "7")
    control.workers[0].counts = {mcr.Rule.parse(RULE).id: 7}
    command("rule", "edit", "A01", "--set", "class=live")
    found = {each["name"]: each for each in command.json("stats")["classes"]}
    assert (found["live"]["rules"], found["default"]["rules"]) == (1, 0)
    assert found["live"]["sent"] == command.json("stats")["totals"]["sent"]
    assert "class live (priority 7, weight 1): 1 rule, sent" in command("stats", "--details")

"""The command `mcr rule edit`: what it changes, and its words for what it cannot change."""

from tests.support.fake_supervisor import FakeSupervisor

from .test_commands import ID_B, B, Command, command, rules_of

__all__ = ["command"]


def test_an_edit(command: Command, control: FakeSupervisor, revision: int) -> None:
    """Each option may be repeated; an invalid one is one line."""
    command("rule", "add", B)
    done = command(
        *("rule", "edit", ID_B, "--set", "name=b", "--set", "expect=2s"),
        *("--set-output", "2", "ttl=16", "--set-output", "239.2.0.2%lo:6001", "ttl=default"),
        *("--add-output", "127.0.0.1:7002", "--add-output", "127.0.0.1:7003"),
    )
    assert done == f"changed {ID_B}\nrevision {revision + 2}\n"
    command("rule", "edit", "b", "--remove-output", "3", "--remove-output", "127.0.0.1:7003")
    (rule,) = rules_of(control).rules
    assert (rule.id, rule.rule) == (
        ID_B,
        "239.1.1.2%lo:5001,name=b,expect=2s to 239.2.0.2%lo:6001 127.0.0.1:7001,ttl=16",
    )
    command("rule", "edit", "b", "--set-output", "2", code=2)
    assert "'2' needs options after it, such as ttl=16" in command.err
    command("rule", "edit", "b", code=2)
    assert command.err == (
        "mcr: the edit changes nothing; give --set, --set-output, --add-output or --remove-output\n"
    )
    command("rule", "edit", "b", "--set-output", "2", "tll=3", code=2)
    assert command.err.startswith("mcr: --set-output 2, tll: is not an option; did you mean 'ttl'?")
    command("rule", "edit", "b", "--set-output", "3", "ttl=3", "--remove-output", "4", code=2)
    assert command.err == (
        "mcr: --set-output 3: there is no output with this number; the rule has 2 outputs\n"
        "mcr: --remove-output 4: there is no output with this number; the rule has 2 outputs\n"
    )
    command("rule", "edit", "b", "--add-output", "127.0.0.1:0", code=2)
    assert command.err == "mcr: --add-output 1, port: 0 is out of range: 1 to 65535\n"

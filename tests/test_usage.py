"""Wrong command lines, most of `mcr send` and `mcr receive`: code 2, one line, no output."""

import pytest

from mcr.cli import main

GROUP = "239.1.1.1%lo:5001"
NUMBERS = ["0", "-1", "x", "nan", "inf", ""]


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("send", "--rate"),
        ("send", "--size"),
        ("send", "--count"),
        ("send", "--duration"),
        ("send", "--ttl"),
        ("receive", "--count"),
        ("receive", "--duration"),
    ],
)
@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_above_zero(
    command: str, option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zero, negative numbers and text are refused."""
    assert main([command, GROUP, f"{option}={text}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert option in err.partition(": ")[2].partition(": ")[0]
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["send", "239.1.1.1%nowhere0:5001", "--flood"],
            "interface: there is no interface 'nowhere0'",
        ),
        (["send", "239.1.1.1:5001", "--flood"], "interface: multicast needs one"),
        (
            ["send", "no-such-host.invalid:5001", "--flood"],
            "address: the host 'no-such-host.invalid'",
        ),
        (["send", "239.1.1.1%lo:0", "--flood"], "port: 0 is out of range"),
        (["send", f"{GROUP},tll=3", "--flood"], "did you mean 'ttl'?"),
        (["send", f"{GROUP},ttl=keep", "--flood"], "mcr: ttl: 'keep' is for outputs of a relay"),
        (["send", f"{GROUP},ttl=0", "--flood"], "mcr: ttl: 0 is out of range: 1 to 255"),
        (
            ["send", f"{GROUP},ttl=3", "--ttl", "4", "--flood"],
            "mcr: --ttl: is 4, but 3 in the endpoint",
        ),
        (["send", GROUP, "--ttl", "0"], "'--ttl': 0 is out of range: 1 to 255"),
        (["send", GROUP, "--size", "23"], "'--size': 23 is out of range: at least 24"),
        (["send", GROUP, "--ttl", "256"], "'--ttl': 256 is out of range: 1 to 255"),
        (["send", GROUP, "--size", "65508", "--flood"], "--size: 65508 is out of range"),
        (["send", GROUP, "--duration", "0"], "'--duration': 0 is out of range: 0.001 to 10000000"),
        (["send", GROUP, "--count", "x"], "'--count': 'x' is not a whole number"),
        (["send", GROUP, "--rate", "fast"], "'--rate': 'fast' is not a number"),
        (["send", GROUP], "'--rate': give one of --rate PPS and --flood"),
        (["send", GROUP, "--rate", "5", "--flood"], "give one of --rate PPS and --flood"),
        (["send"], "ENDPOINT"),
        (
            ["fleet", "rollback", "0", "--nats", "nats://127.0.0.1:1"],
            "'--yes': is needed without a terminal to ask on; add it; see mcr fleet rollback",
        ),
        (["capture", "--side", "send"], "'sent', 'dropped'; did you mean 'sent'? see mcr capture"),
        (["receive", "239.1.1.1%nowhere0:5001"], "interface: there is no interface 'nowhere0'"),
        (["receive", "192.0.2.77:5001"], "192.0.2.77 is neither multicast nor an address"),
        (["receive", "ff01::1%lo:5001"], "interface-local scope"),
        (["receive", "239.1.1.1%lo:70000"], "port: 70000 is out of range"),
        (["receive"], "ENDPOINT"),
    ],
)
def test_an_invalid_endpoint_is_named(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its field and the fix, in one line."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("relay --duration", "Option '--duration' needs SECONDS after it; see mcr relay --help"),
        ("serve --hosts", "Option '--hosts' needs <first|all> after it; see mcr serve --help"),
        ("capture -w", "Option '-w' needs FILE after it; see mcr capture --help"),
        (
            "rule edit a --set-output",
            "Option '--set-output' needs OUTPUT OPTIONS after it; see mcr rule edit --help",
        ),
        ("rule edit --help=x", "Option '--help' does not take a value; see mcr rule edit --help"),
        ("rule --help=x", "Option '--help' does not take a value; see mcr rule --help"),
        ("--version=x", "Option '--version' does not take a value; see mcr --help"),
    ],
)
def test_the_parser_of_options_names_the_command(
    arguments: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own help, and the values that an option needs."""
    assert main(arguments.split()) == 2
    assert capsys.readouterr().err == f"mcr: {expected}\n"

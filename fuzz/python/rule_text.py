"""The text of rules: any text is a rule, which its own text means, or is refused in words."""

import sys

import atheris

with atheris.instrument_imports(include=["mcr.rules", "mcr.errors"]):
    from mcr.errors import RuleError
    from mcr.rules import Input, Output, Rule


def fuzz_one(data: bytes) -> None:
    """Read the bytes as a rule, and as each side of one."""
    text = data.decode(errors="replace")
    for kind in (Rule, Input, Output):
        try:
            parsed = kind.parse(text)
        except RuleError as error:
            messages = [each.message for each in error.problems]
        else:
            messages = ["it is a rule"]
            assert kind.parse(str(parsed)) == parsed
        assert messages
        assert all(messages)


atheris.Setup(sys.argv, fuzz_one)
atheris.Fuzz()

"""The format of a file of rules: TOML or, if it begins with a brace, JSON.

    rules = [
      "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
      { rule = "239.1.1.2%eth0:5001 to 192.0.2.7:7000", enabled = false },
    ]

Knows neither where files are nor what their rules may contain.
"""

import json
import re
import tomllib
from typing import Any

_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class FormatError(ValueError):
    """The file has another format; the text follows the name of the file."""

    def __init__(self, message: str, line: int = 1) -> None:
        """Create the error for a line, counted from 1."""
        self.line = line
        super().__init__(message)


def parse_file(content: bytes) -> Any:  # noqa: ANN401 -- any JSON or TOML value
    """The value that the file holds.

    Raises:
        FormatError: it has another format.
    """
    try:
        text = content.decode()
        return json.loads(text) if is_json(text) else tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FormatError(f"is not UTF-8 at byte {error.start + 1}", line) from None
    except RecursionError:
        raise FormatError("is nested too deeply") from None
    except ValueError as error:
        hint = 'write rules = ["A to B", "C to D"]'
        message = f"is neither TOML nor JSON: {error}; {hint}"
        raise FormatError(message, _line_of(error, content)) from None


def is_json(text: str) -> bool:
    """Whether a file is read as JSON."""
    return text.lstrip().startswith("{")


def _line_of(error: ValueError, content: bytes) -> int:
    if isinstance(error, json.JSONDecodeError):
        return error.lineno
    found = _TOML_PLACE.search(str(error))
    return int(found[1]) if found and found[1] else content.count(b"\n") + 1

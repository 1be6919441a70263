"""The format of a file of rules: TOML or, if it begins with a brace, JSON.

    rules = [
      "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001",
      { rule = "239.1.1.2%eth0:5001 to 192.0.2.7:7000", enabled = false },
    ]

Knows neither where files are nor what their rules may contain.
"""

import json
import tomllib
from typing import Any


def parse_file(content: bytes) -> Any:  # noqa: ANN401 -- any JSON or TOML value
    """The value that the file holds.

    Raises:
        ValueError: it has another format; the text follows the name of the file.
    """
    try:
        text = content.decode()
        return json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start + 1}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        hint = 'write rules = ["A to B", "C to D"]'
        raise ValueError(f"is neither TOML nor JSON: {error}; {hint}") from None

"""The command `mcr import`: configurations of other programs as ours."""

from typing import Annotated, Literal

import typer

from ..config.importers import FORMATS
from ..config.writer import write_toml
from ..errors import ConfigError, Problem
from .config_file import read_content
from .progress import progress

_Format = Literal["smcroute", "samplicator", "multicast-relay", "mcrd"]


def import_(
    form: Annotated[_Format, typer.Argument(metavar="FORMAT", help="The other program.")],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Its configuration, or for multicast-relay its arguments; - is standard input.",
        ),
    ],
) -> None:
    """Print the configuration of another program as one of mcr.

    FORMAT is smcroute, samplicator, multicast-relay or mcrd. Comments say what cannot be carried
    over.
    """
    name, content = read_content(file)
    try:
        with progress(f"reading {name}"):
            found = FORMATS[form](content.decode())
            text = write_toml(found.settings, found.rules, found.comments)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 at byte {error.start + 1}") from None
    except ConfigError as error:
        problems = (Problem((name, *each.path), each.message) for each in error.problems)
        raise ConfigError(problems) from None
    print(text, end="", flush=True)

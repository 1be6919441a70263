"""Wrong usage beyond what typer checks: which option is to blame."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def usage_of(option: str) -> Iterator[None]:
    """Turn a ValueError of the block into a usage error that names the option."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=repr(option)) from None

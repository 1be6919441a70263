"""The known name that was probably meant by an unknown one, for messages."""

import difflib
from collections.abc import Iterable


def most_similar(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to a name; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def suggestion(name: str, known: Iterable[str], *, before: str = "", after: str = "") -> str:
    """The question whether the most similar known name was meant, between two texts.

    Empty, also without these texts, if none is similar.
    """
    similar = most_similar(name, known)
    return "" if similar is None else f"{before}did you mean {similar!r}?{after}"

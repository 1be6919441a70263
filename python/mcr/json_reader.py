"""Objects that came as JSON, read field by field into typed values.

Owns the checks of presence and type, and the path that names a wrong field. Knows no particular
object. Fields that nobody asks for are passed over: a newer writer may say more.
"""

import math
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T", str, int, float, bool)

_NOUNS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_SHOWN_CHARS = 40


class ShapeError(ValueError):
    """A field is missing or of the wrong type; the text names it by its path."""


class Shape:
    """One JSON object and the path that led to it."""

    __slots__ = ("_fields", "_path")

    def __init__(self, value: object, path: str = "") -> None:
        """Take a value that must be an object.

        Raises:
            ShapeError: it is something else.
        """
        if not isinstance(value, dict):
            raise ShapeError(f"{path or 'it'} is {_shown(value)}, not an object")
        self._fields: dict[str, Any] = value
        self._path = path

    def get(self, name: str, kind: type[T]) -> T:
        """Return a field that must be there; `float` takes whole numbers too.

        Raises:
            ShapeError: it is missing, null or of another type.
        """
        return _typed(self._there(name), kind, self._at(name))

    def maybe(self, name: str, kind: type[T]) -> T | None:
        """Return a field that may be missing or null.

        Raises:
            ShapeError: it is there and of another type.
        """
        value = self._fields.get(name)
        return None if value is None else _typed(value, kind, self._at(name))

    def count(self, name: str) -> int:
        """Return a whole number that is not negative.

        Raises:
            ShapeError: it is something else.
        """
        return _count(self._there(name), self._at(name))

    def counts(self, name: str) -> dict[str, int]:
        """Return an object whose values are counts.

        Raises:
            ShapeError: it is something else.
        """
        counts = self.nested(name)
        return {key: _count(value, counts._at(key)) for key, value in counts._fields.items()}

    def nested(self, name: str) -> "Shape":
        """Return a field that is an object itself.

        Raises:
            ShapeError: it is something else.
        """
        return Shape(self._there(name), self._at(name))

    def has(self, name: str) -> bool:
        """Say whether a field is there and not null."""
        return self._fields.get(name) is not None

    def objects(self, name: str) -> Iterator["Shape"]:
        """Yield the objects of an array.

        Raises:
            ShapeError: it is no array, or one of them is no object.
        """
        for number, value in enumerate(self._array(name)):
            yield Shape(value, f"{self._at(name)}[{number}]")

    def array(self, name: str, kind: type[T]) -> tuple[T, ...]:
        """Return an array whose values are of one type.

        Raises:
            ShapeError: it is something else.
        """
        at = self._at(name)
        return tuple(
            _typed(value, kind, f"{at}[{number}]") for number, value in enumerate(self._array(name))
        )

    def plain(self) -> dict[str, Any]:
        """Return all fields, unread."""
        return dict(self._fields)

    def _there(self, name: str) -> Any:  # noqa: ANN401 -- JSON, not looked at yet
        if name not in self._fields:
            raise ShapeError(f"{self._at(name)} is missing")
        return self._fields[name]

    def _array(self, name: str) -> list[Any]:
        value = self._there(name)
        if not isinstance(value, list):
            raise ShapeError(f"{self._at(name)} is {_shown(value)}, not an array")
        return value

    def _at(self, name: str) -> str:
        shown = name if name.isidentifier() and len(name) <= _SHOWN_CHARS else _shown(name)
        return f"{self._path}.{shown}" if self._path else shown


def _typed(value: object, kind: type[T], at: str) -> T:
    if kind is float and type(value) is int:
        value = _finite(value, at)
    # `type`, as true and false are whole numbers to `isinstance`.
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ShapeError(f"{at} is {_shown(value)}, not {_NOUNS[kind]}")
    return value


def _finite(value: int, at: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ShapeError(f"{at} is a number beyond all bounds") from None


def _count(value: object, at: str) -> int:
    number = _typed(value, int, at)
    if number < 0:
        raise ShapeError(f"{at} is {number}, less than 0")
    return number


def _shown(value: object) -> str:
    """The value as a message shows it: what came may be of any length."""
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN_CHARS else "huge"
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."

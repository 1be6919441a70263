"""What an import collects: rules, settings, and sentences about what is left out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigError, Problem, RuleError
from ...rules import Rule
from ..writer import WrittenRule


@dataclass(slots=True)
class Imported:
    """A configuration under construction."""

    settings: dict[str, Any] = field(default_factory=dict)
    rules: list[WrittenRule] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    """About the whole."""
    _problems: list[Problem] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)

    def note(self, line: int, sentence: str) -> None:
        """Note what a line has that no rule can; it is written before the next rule."""
        self._pending.append(f"line {line}: {sentence}")

    def add(self, line: int, text: str, *comments: str) -> None:
        """Add a rule, or note why it is none."""
        try:
            rule = Rule.parse(text)
        except RuleError as error:
            self.refuse(line, *(str(problem) for problem in error.problems))
            return
        self.rules.append(WrittenRule(rule, comments=(*self._pending, *comments)))
        self._pending.clear()

    def refuse(self, line: int, *sentences: str) -> None:
        """Note what is wrong with a line."""
        self._problems += [Problem((f"line {line}",), sentence) for sentence in sentences]

    def finished(self) -> "Imported":
        """Return the whole.

        Raises:
            ConfigError: with all problems.
        """
        if self._problems:
            raise ConfigError(self._problems)
        self.comments += self._pending
        return self


def words_by_line(text: str, comment: str = "#") -> Sequence[tuple[int, list[str]]]:
    """The words of each line that has any, without comments, with the number of the line."""
    lines = enumerate(text.splitlines(), 1)
    found = ((number, line.partition(comment)[0].split()) for number, line in lines)
    return [(number, words) for number, words in found if words]

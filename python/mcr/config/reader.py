"""Configuration files to settings and rules, with every mistake at once.

Each problem has its file and line, its key, and the name of the rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from ..errors import ConfigError, FieldPath, Problem, RuleError
from ..rules import Rule
from ..rules.fields import Invalid
from . import keys
from .document import Document, FileContent, read_documents
from .include import PATTERNS_LIMIT, is_permitted
from .keys import Key, unknown
from .lines import KeyPath
from .rule_reader import ReadRule, RuleDefaults, name_of, read_rule

RULES_LIMIT = 50_000
_PROBLEMS_LIMIT = 1000
_PERMITTED = (
    "of .toml or .json files below the directory of this file; write such as include ="
    ' "conf.d/*.toml"'
)
Settings = Mapping[str, Any]


class RuleLocation(NamedTuple):
    """Where a rule stands."""

    document: Document
    path: KeyPath


class WantedRule(NamedTuple):
    """A rule that the files want."""

    rule: Rule | str
    """A text is not parsed yet, unless the file has defaults."""
    enabled: bool
    place: RuleLocation


@dataclass(frozen=True)
class Configuration:
    """What the files of a configuration say."""

    settings: Settings
    """The table `daemon`."""
    include: tuple[str, ...]
    rules: tuple[WantedRule, ...]

    @cached_property
    def parsed(self) -> tuple[Rule, ...]:
        """The rules as values.

        Raises:
            ConfigError: with the problems of all rules.
        """
        parsed, problems = list[Rule](), list[Problem]()
        for number, wanted in enumerate(self.rules, 1):
            try:
                rule = wanted.rule
                parsed.append(Rule.parse(rule) if isinstance(rule, str) else rule)
            except RuleError as error:
                problems += [each.under("rule", number) for each in error.problems]
        if problems:
            raise self.error(RuleError(problems))
        return tuple(parsed)

    def error(self, error: RuleError) -> ConfigError:
        """The error with places in files, of one whose problems are under `rule N`."""
        return ConfigError([self._placed(problem) for problem in error.problems])

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Within the block, errors about `rule N` have their places in files."""
        try:
            yield
        except RuleError as error:
            raise self.error(error) from None

    def _placed(self, problem: Problem) -> Problem:
        match _parts(problem.field):
            case ("rule", int(number), *rest) if number <= len(self.rules):
                rule, _enabled, place = self.rules[number - 1]
                label = rule.name if isinstance(rule, Rule) else name_of(rule)
                return place.document.problem(
                    place.path, problem.message, within=tuple(rest), label=label
                )
        return problem


def read_files(files: Sequence[FileContent]) -> Configuration:
    """Read a configuration; the first file is the main one, the others are included.

    Raises:
        ConfigError: with all problems. Texts of rules are checked by `Configuration.parsed`.
    """
    documents, problems = read_documents(files)
    main = next(iter(documents), None)
    rules: list[WantedRule] = []
    settings: Settings = {}
    include: tuple[str, ...] = ()
    for document in documents:
        reader = _DocumentReader(document, is_main=document.name == files[0].name)
        rules += islice(reader.rules(), RULES_LIMIT + 1 - len(rules))
        if document is main:
            settings, include = reader.settings(), reader.include()
        problems += reader.problems
    if len(rules) > RULES_LIMIT:
        problems.append(Problem("", f"there are more than {RULES_LIMIT} rules"))
    configuration = Configuration(settings, include, tuple(rules))
    if problems:
        raise ConfigError((*problems, *_text_problems(configuration))[:_PROBLEMS_LIMIT])
    return configuration


def _parts(field: str) -> FieldPath:
    """The path of a field that a daemon has told as text, such as ``rule 2, output 1, ttl``."""
    parts: list[str | int] = []
    for text in field.split(", ") if field else ():
        noun, _, number = text.rpartition(" ")
        parts += [noun, int(number)] if noun and number.isdecimal() else [text]
    return tuple(parts)


def _text_problems(configuration: Configuration) -> tuple[Problem, ...]:
    """Those of the texts, so that all mistakes are told at once."""
    try:
        assert configuration.parsed is not None
    except ConfigError as error:
        return error.problems
    return ()


class _DocumentReader:
    """Reads one file, and collects its problems."""

    def __init__(self, document: Document, *, is_main: bool) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._value = document.value
        known = [key for key in keys.FILE if is_main or key not in keys.MAIN_ONLY]
        for key in self._value:
            if key in keys.FILE and key not in known:
                self._add((key,), "belongs to the main file; move it there")
            elif key not in known:
                self._add((key,), unknown(key, known))

    def settings(self) -> Settings:
        return self._table(("daemon",), keys.DAEMON)

    def include(self) -> tuple[str, ...]:
        given = self._value.get("include", [])
        patterns = [given] if isinstance(given, str) else given
        if not isinstance(patterns, list) or len(patterns) > PATTERNS_LIMIT:
            self._add(("include",), f"must be a string or an array of up to {PATTERNS_LIMIT}")
            return ()
        for position, pattern in enumerate(patterns):
            if not is_permitted(pattern):
                path: KeyPath = ("include",) if isinstance(given, str) else ("include", position)
                self._add(path, f"{pattern!r} is no pattern {_PERMITTED}")
        return tuple(filter(is_permitted, patterns))

    def rules(self) -> Iterator[WantedRule]:
        defaults = self._defaults()
        given = self._value.get("rules", [])
        if not isinstance(given, list):
            self._add(("rules",), 'must be an array; write rules = ["A to B", "C to D"]')
            return
        for position, value in enumerate(given):
            path = ("rules", position)
            place = RuleLocation(self._document, path)
            for form in self._forms(path, value, defaults):
                yield WantedRule(form.rule, form.enabled, place)

    def _forms(self, path: KeyPath, value: object, defaults: RuleDefaults) -> list[ReadRule]:
        try:
            return list(read_rule(value, defaults))
        except RuleError as error:
            label = name_of(value)
            self.problems += [
                self._document.problem(path, each.message, within=each.path, label=label)
                for each in error.problems
            ]
            return []

    def _defaults(self) -> RuleDefaults:
        values = self._table(("defaults",), keys.DEFAULTS)
        own = {key: values[key] for key in ("enabled", "expect") if key in values}
        return RuleDefaults(
            **own,
            input=self._table(("defaults", "input"), keys.INPUT_DEFAULTS),
            output=self._table(("defaults", "output"), keys.OUTPUT_DEFAULTS),
        )

    def _table(self, path: KeyPath, known: Mapping[str, Key]) -> dict[str, Any]:
        """The valid values of a table that may be missing."""
        table: object = self._value
        for part in path:
            table = table.get(part, {}) if isinstance(table, dict) else {}
        if not isinstance(table, dict):
            self._add(path, "must be a table")
            return {}
        values = {}
        for name, value in table.items():
            key = known.get(name)
            if key is None:
                self._add((*path, name), unknown(name, known))
                continue
            try:
                values[name] = value if key.read is None else key.read(value)
            except Invalid as error:
                self._add((*path, name), str(error))
        return values

    def _add(self, path: KeyPath, message: str) -> None:
        self.problems.append(self._document.problem(path, message))

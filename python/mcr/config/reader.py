"""Configuration files to settings and rules, with every mistake at once.

Each problem has its file and line, its key, and the name of the rule.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from ..errors import ConfigError, FieldPath, Problem, RuleError
from ..rules import Rule
from ..rules.fields import Invalid
from ..rules.shaping import NO_SHAPING, InterfaceRate, Shaping, TrafficClass
from . import keys
from .document import Document, FileContent, read_documents
from .expansion import Values, row_words
from .include import PATTERNS_LIMIT, is_permitted
from .keys import Key, unknown
from .lines import KeyPath
from .rule_reader import RuleDefaults, name_of, read_rule, rows_of

RULES_LIMIT = 50_000
_PROBLEMS_LIMIT = 1000
_PERMITTED = (
    "of .toml or .json files below the directory of this file; write such as include ="
    ' "conf.d/*.toml"'
)
Settings = Mapping[str, Any]
_OTHER_RULE = re.compile(r"\brule ([1-9][0-9]{0,5})\b", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
T = TypeVar("T")


class RuleLocation(NamedTuple):
    """Where a rule stands."""

    document: Document
    path: KeyPath
    values: Values
    """Those of its names in `for`; empty without."""

    def words(self, other: Document) -> str:
        """How a problem in another document names the rule."""
        file = "" if self.document is other else f" of {self.document.name}"
        return f"rule {int(self.path[-1]) + 1}{row_words(self.values)}{file}"


class _Mistake(NamedTuple):
    """A problem of a rule."""

    place: RuleLocation
    label: str | None
    """The name of the rule."""
    within: FieldPath
    message: str


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
    shaping: Shaping = NO_SHAPING
    """The tables `classes` and `interfaces`."""

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
        mistakes, others = list[_Mistake](), list[Problem]()
        for problem in error.problems:
            match _parts(problem.field):
                case ("rule", int(number), *rest) if 1 <= number <= len(self.rules):
                    mistakes.append(self._mistake(number, tuple(rest), problem.message))
                case _:
                    others.append(problem)
        names = dict.fromkeys(each.place.document.name for each in self.rules)
        return ConfigError([*_by_line(_told_once(mistakes), names), *others])

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Within the block, errors about `rule N` have their places in files."""
        try:
            yield
        except RuleError as error:
            raise self.error(error) from None

    def _mistake(self, number: int, within: FieldPath, message: str) -> _Mistake:
        rule, _enabled, place = self.rules[number - 1]
        label = rule.name if isinstance(rule, Rule) else name_of(rule)

        def words(other: re.Match[str]) -> str:
            known = int(other[1]) <= len(self.rules)
            return self.rules[int(other[1]) - 1].place.words(place.document) if known else other[0]

        return _Mistake(place, label, within, _OTHER_RULE.sub(words, message))


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
    shaping = NO_SHAPING
    for document in documents:
        reader = _DocumentReader(document, is_main=document.name == files[0].name)
        rules += islice(reader.rules(), RULES_LIMIT + 1 - len(rules))
        if document is main:
            settings, include = reader.settings(), reader.include()
            shaping = reader.shaping()
        problems += reader.problems
    if len(rules) > RULES_LIMIT:
        problems.append(Problem("", f"there are more than {RULES_LIMIT} rules"))
    configuration = Configuration(settings, include, tuple(rules), shaping)
    if problems:
        told = _by_line((*problems, *_text_problems(configuration)), [each.name for each in files])
        raise ConfigError(told[:_PROBLEMS_LIMIT])
    return configuration


def _by_line(problems: Iterable[Problem], files: Iterable[str]) -> list[Problem]:
    """The problems in the order of their files and lines; those without a place last."""
    order = {name: number for number, name in enumerate(files)}

    def place(problem: Problem) -> tuple[int, int]:
        name, _, line = str(problem.path[0] if problem.path else "").rpartition(":")
        return order.get(name, len(order)), int(line) if name in order else 0

    return sorted(problems, key=place)


def _mistakes_of(place: RuleLocation, label: str | None, error: RuleError) -> Iterator[_Mistake]:
    return (_Mistake(place, label, each.path, each.message) for each in error.problems)


def _told_once(mistakes: Iterable[_Mistake]) -> Iterator[Problem]:
    """The mistakes as problems; one that several rules of a `for` share is told for the first."""
    alike: dict[object, list[_Mistake]] = {}
    for each in mistakes:
        key = (id(each.place.document), each.place.path, each.within, each.message)
        alike.setdefault(key, []).append(each)
    for same in islice(alike.values(), _PROBLEMS_LIMIT):
        place, label, within, message = same[0]
        more = f" (and {len(same) - 1} more of these rules)" if len(same) > 1 else ""
        yield place.document.problem(
            place.path, message + more, within=within, label=label, values=place.values
        )


def _parts(field: str) -> FieldPath:
    """The path of a field that a daemon has told as text, such as ``rule 2, output 1, ttl``."""
    parts: list[str | int] = []
    for text in field.split(", ") if field else ():
        noun, _, number = text.rpartition(" ")
        parts += [noun, int(number)] if noun and _NUMBER.fullmatch(number) else [text]
    return tuple(parts)


def _text_problems(configuration: Configuration) -> tuple[Problem, ...]:
    """Those of the texts, so that all mistakes are told at once."""
    try:
        assert configuration.parsed is not None
    except ConfigError as error:
        return error.problems
    return ()


def _rate(interface: str, rate: str | None = None, burst: int | None = None) -> InterfaceRate:
    if rate is None:
        raise RuleError([("rate", 'is missing; write such as rate = "100mbit"')])
    return InterfaceRate(interface, rate, burst)


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

    def shaping(self) -> Shaping:
        classes = [
            each
            for name in self._names("classes")
            if (each := self._made(("classes", name), keys.CLASS, partial(TrafficClass, name)))
        ]
        rates = [
            own
            for name in self._names("interfaces")
            if (own := self._made(("interfaces", name), keys.INTERFACE, partial(_rate, name)))
        ]
        try:
            return Shaping.of(classes, rates)
        except RuleError as error:
            for problem in error.problems:
                self._add((str(problem.path[0]),), problem.message)
            return NO_SHAPING

    def _names(self, key: str) -> list[str]:
        tables = self._value.get(key, {})
        if not isinstance(tables, dict):
            self._add((key,), f"must be a table; write [{key}.NAME]")
            return []
        return list(tables)

    def _made(self, path: KeyPath, known: Mapping[str, Key], make: Callable[..., T]) -> T | None:
        """What a table describes; None after a problem."""
        before = len(self.problems)
        values = self._table(path, known)
        if len(self.problems) > before:
            return None
        try:
            return make(**values)
        except RuleError as error:
            for problem in error.problems:
                field = str(problem.path[0]) if problem.path else ""
                self._add((*path, field) if field in known else path, problem.message)
            return None

    def rules(self) -> Iterator[WantedRule]:
        defaults = self._defaults()
        given = self._value.get("rules", [])
        if not isinstance(given, list):
            self._add(("rules",), 'must be an array; write rules = ["A to B", "C to D"]')
            return
        for position, value in enumerate(given):
            path: KeyPath = ("rules", position)
            mistakes = list[_Mistake]()
            try:
                rows = rows_of(value)
            except RuleError as error:
                rows = []
                place = RuleLocation(self._document, path, {})
                mistakes += _mistakes_of(place, name_of(value), error)
            for row in rows:
                place = RuleLocation(self._document, path, row.values)
                try:
                    read = read_rule(row, defaults)
                except RuleError as error:
                    mistakes += _mistakes_of(place, row.label, error)
                else:
                    yield WantedRule(read.rule, read.enabled, place)
            self.problems += _told_once(mistakes)

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

"""An edit of a rule: some other options and outputs, while its id and all that stays continue.

Outputs are named by their numbers, as listed before the edit, or by their text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ..errors import ArgumentError, FieldPath, RuleError
from ..similar_names import suggestion
from . import grammar
from .fields import Invalid, ProblemCollector
from .layout import Layout
from .model import Rule
from .objects import object_from_output
from .output import Output

OutputRef = int | str
"""An output of a rule: its number, from 1, or its text, with or without interface and options."""
Options = Mapping[str, Any] | str
"""Options as in rule text, such as ``ttl=16,dscp=46``, where ``default`` takes one back; or by the
arguments of the constructors, where None does."""

_DESTINATION = ("address", "port", "interface")
_RULE_OPTIONS = ("name", "expect", "traffic_class")
_OUTPUT_OPTIONS = tuple(
    each.name for each in fields(Output) if each.init and each.name not in _DESTINATION
)


class EditedRule(NamedTuple):
    """A rule after an edit."""

    rule: Rule
    layout: Layout
    """Its outputs, by their places in the rule before."""


@dataclass(frozen=True, slots=True)
class RuleEdit:
    """The changes of one rule; what they do not name stays."""

    options: Mapping[str, Any]
    """The name, expectation or class; None takes it away."""
    set_outputs: Mapping[OutputRef, Mapping[str, Any]]
    """Options by outputs; None takes an option back."""
    add_outputs: tuple[Output, ...]
    """At the end."""
    remove_outputs: tuple[OutputRef, ...]

    @classmethod
    def of(
        cls,
        options: Options = "",
        *,
        set_outputs: Mapping[OutputRef, Options] | None = None,
        add_outputs: Iterable[Output | str] = (),
        remove_outputs: Iterable[OutputRef] = (),
    ) -> "RuleEdit":
        """Parse an edit.

        Raises:
            RuleError: with all problems.
            ArgumentError: an argument has a wrong type.
        """
        if isinstance(add_outputs, str | Output) or isinstance(remove_outputs, str | int):
            raise ArgumentError("outputs are a sequence; write [output] for a single one")
        if not isinstance(add_outputs, Iterable) or not isinstance(remove_outputs, Iterable):
            raise ArgumentError("outputs must be a sequence")
        if not isinstance(set_outputs, Mapping | None):
            raise ArgumentError("set_outputs must be a mapping of outputs to their options")
        refs = tuple(remove_outputs)
        for ref in (*(set_outputs or ()), *refs):
            if not isinstance(ref, int | str):
                raise ArgumentError(f"an output must be a number or a string, not {ref!r}")
        check = ProblemCollector()
        edit = cls(
            _options(options, "input", _RULE_OPTIONS, check, ()),
            {
                ref: _options(each, "output", _OUTPUT_OPTIONS, check, ("set_output", _label(ref)))
                for ref, each in (set_outputs or {}).items()
            },
            tuple(_added(add_outputs, check)),
            refs,
        )
        check.raise_if_any()
        if not (edit.options or edit.set_outputs or edit.add_outputs or edit.remove_outputs):
            raise RuleError("the edit changes nothing; give an option, or an output")
        return edit

    def as_object(self) -> dict[str, Any]:
        """The edit as an object of the protocol; what it does not change is left out."""
        members = {
            "options": _plain(self.options),
            "set_outputs": [
                {"output": ref, "options": _plain(options)}
                for ref, options in self.set_outputs.items()
            ],
            "add_outputs": [object_from_output(output) for output in self.add_outputs],
            "remove_outputs": list(self.remove_outputs),
        }
        return {name: own for name, own in members.items() if own}

    @property
    def needs_names(self) -> bool:
        """Whether the rule may have other host names afterwards, or other addresses of them."""
        added = any(isinstance(output.address, str) for output in self.add_outputs)
        return added or any("source" in options for options in self.set_outputs.values())

    def apply(self, rule: Rule) -> EditedRule:
        """Edit a rule.

        Raises:
            RuleError: with all problems; numbers of outputs are those after the edit.
        """
        check = ProblemCollector()
        changed: dict[int, Output] = {}
        for ref, options in self.set_outputs.items():
            place = check.field(("set_output", _label(ref)), lambda own: _find(rule, own), ref)
            if place is not None and place in changed:
                check.add(("set_output", _label(ref)), f"output {place + 1} is named twice")
            elif place is not None:
                changed[place] = _with_options(rule.outputs[place], options, check, _label(ref))
        removed = set[int]()
        for ref in self.remove_outputs:
            place = check.field(("remove_output", _label(ref)), lambda own: _find(rule, own), ref)
            if place is not None and (place in removed or place in changed):
                check.add(("remove_output", _label(ref)), f"output {place + 1} is named twice")
            elif place is not None:
                removed.add(place)
        check.raise_if_any()
        outputs, layout = _arranged(rule.outputs, changed, removed, self.add_outputs)
        given = {each: getattr(rule, each) for each in _RULE_OPTIONS} | {**self.options}
        new = (each for each in layout if isinstance(each, int))
        edited = rule.edited(outputs, new=new, **given)
        return EditedRule(edited, layout)


def find_output(outputs: Sequence[Output], ref: OutputRef) -> int:
    """The place of the output that a number or a text names.

    Raises:
        Invalid: there is none, or several.
    """
    if _is_number(ref):
        if not 1 <= int(ref) <= len(outputs):
            own = "1 output" if len(outputs) == 1 else f"{len(outputs)} outputs"
            raise Invalid(f"there is no output with this number; the rule has {own}")
        return int(ref) - 1
    try:
        wanted = Output.parse(str(ref))
    except RuleError as error:
        raise Invalid(f"is neither a number nor an output: {error.problems[0]}") from None
    found = [
        place
        for place, output in enumerate(outputs)
        if output.port == wanted.port and output.address == wanted.address
    ]
    named = [place for place in found if outputs[place].interface == wanted.interface]
    found = named or (found if wanted.interface is None else [])
    if len(found) > 1:
        numbers = " and ".join(str(place + 1) for place in found)
        raise Invalid(f"is ambiguous: outputs {numbers} have this address and port; give a number")
    if not found:
        raise Invalid("the rule has no such output")
    return found[0]


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with JSON values."""
    return {
        grammar.option_of(name): own if own is None or isinstance(own, int | str) else str(own)
        for name, own in options.items()
    }


def _label(ref: OutputRef) -> OutputRef:
    """The output in the path of a problem."""
    return int(ref) if _is_number(ref) else ref


def _is_number(ref: OutputRef) -> bool:
    return isinstance(ref, int) or (ref.isascii() and ref.isdigit())


def _find(rule: Rule, ref: OutputRef) -> int:
    return find_output(rule.outputs, ref)


def _options(
    given: Options,
    noun: grammar.Noun,
    known: Sequence[str],
    check: ProblemCollector,
    path: FieldPath,
) -> Mapping[str, Any]:
    """The arguments that options stand for; `check` gets the problems."""
    if isinstance(given, str):
        try:
            found: Mapping[str, Any] = grammar.parse_options(given, noun)
        except RuleError as error:
            check.problems += [problem.under(*path) for problem in error.problems]
            return {}
    elif isinstance(given, Mapping):
        found = given
    else:
        raise ArgumentError(f"options must be a string or a mapping, not {given!r}")
    for name in found:
        if name not in known:
            check.add((*path, str(name)), _fixed(name, noun, known))
    return found


def _fixed(name: str, noun: str, known: Sequence[str]) -> str:
    """Why an edit does not change this."""
    if noun == "input":
        return "belongs to the input, which an edit keeps; remove the rule, and add another"
    if name in _DESTINATION:
        return "says where copies go; remove the output, and add another"
    hint = suggestion(str(name), known, after=" ")
    return f"is not an option; {hint}the options of an output are {', '.join(known)}"


def _added(given: Iterable[Output | str], check: ProblemCollector) -> Iterable[Output]:
    for number, output in enumerate(given, 1):
        try:
            yield output if isinstance(output, Output) else Output.parse(output)
        except RuleError as error:
            check.problems += [each.under("add_output", number) for each in error.problems]


def _with_options(
    output: Output, options: Mapping[str, Any], check: ProblemCollector, ref: int | str
) -> Output:
    """The output with other options; itself if `check` gets a problem."""
    values = {each: getattr(output, each) for each in (*_DESTINATION, *_OUTPUT_OPTIONS)}
    given = {name: own for name, own in {**values, **options}.items() if own is not None}
    try:
        return Output(given.pop("address"), given.pop("port"), **given)
    except RuleError as error:
        check.problems += [each.under("set_output", ref) for each in error.problems]
        return output


def _arranged(
    outputs: tuple[Output, ...],
    changed: Mapping[int, Output],
    removed: set[int],
    added: Sequence[Output],
) -> tuple[tuple[Output, ...], Layout]:
    """The outputs after an edit, and where they come from."""
    edited: tuple[Output, ...] = ()
    layout: list[range | int] = []
    start = 0
    for place in sorted((*changed, *removed, len(outputs))):
        if place > start:
            layout.append(range(start, place))
            edited += outputs[start:place]
        if place in changed:
            layout.append(len(edited))
            edited += (changed[place],)
        start = place + 1
    layout += range(len(edited), len(edited) + len(added))
    return (*edited, *added), tuple(layout)

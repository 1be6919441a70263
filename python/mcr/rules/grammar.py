"""The rule text: its syntax, from text to constructor arguments and back.

    rule     = input *(SP "+" SP input) SP ("to" | "->") SP output *(SP output)
    endpoint = [source *("+" source) "@"] address ["/" length] ["%" interface] ":" port ["-" port]
               *("," key "=" value)

Canonical: ``to``, one space, options in the order of the tables below, brackets around IPv6 only
where no interface ends it. Also read: ``->``, commas between outputs, ``[v6]%if:port`` and
``[v6%if]:port``. The values of a field are read in `fields`.
"""

import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from ..errors import ArgumentError, FieldPath, RuleError
from ..similar_names import suggestion
from . import fields, rates, redundancy, shaping
from .endpoint_text import bare_address, number, read_interface, read_ports, split_endpoint
from .expectation import Expectation
from .fields import Invalid, ProblemCollector
from .redundancy import MERGE_OPTIONS

T = TypeVar("T")
Noun = Literal["input", "output"]
Arguments = dict[str, Any]
"""Keyword arguments of `Input` or `Output`."""

SEPARATORS = ("to", "->")
RULE_OPTIONS = ("name", "expect", *MERGE_OPTIONS, "traffic_class")
"""Arguments of a rule whose options stand on one of its inputs."""

_REDIRECT = "the shell read '>' as a redirection; write 'to' between input and outputs"


@dataclass(frozen=True, slots=True)
class RuleParts:
    """The parts of a rule's text, as arguments of the constructors in `model`."""

    inputs: tuple[Arguments, ...]
    outputs: tuple[Arguments | str, ...]
    """The arguments of each, or its text if that is known."""
    name: str | None
    expect: Expectation | None
    merge: str | None = None
    late: redundancy.Late | None = None
    after: str | None = None
    reorder: str | None = None
    traffic_class: str | None = None

    @property
    def options(self) -> Arguments:
        """The arguments of a rule beside its inputs and outputs."""
        return {name: getattr(self, name) for name in RULE_OPTIONS}


def parse_rule(text: str, known: Container[str] = ()) -> RuleParts:
    """Reads a rule, ``input to output output``.

    Args:
        text: the rule.
        known: canonical texts of outputs, which are not read again.

    Raises:
        RuleError: with every problem, under paths such as ``output 1, ttl``.
        ArgumentError: `text` is not a string.
    """
    heads, tail = _halves(_text(text, "a rule", "Rule").split())
    check = ProblemCollector()
    sources = [
        _read(head, _INPUT, check, ("input", number) if len(heads) > 1 else ("input",))
        for number, head in enumerate(heads, 1)
    ]
    options = _rule_options(sources, check)
    outputs = [
        each if isinstance(each, str) else _read(each, _OUTPUT, check, ("output", number))
        for number, each in enumerate(_split_outputs(tail, known), 1)
    ]
    if not outputs and not check.problems:
        check.add("outputs", "missing after 'to'; write address%interface:port")
    check.raise_if_any()
    return RuleParts(tuple(sources), tuple(outputs), **options)


def parse_input(text: str) -> Arguments:
    """Reads one input without a rule around it.

    Raises:
        RuleError: with every problem, under the field's name.
    """
    check = ProblemCollector()
    arguments = _read(_text(text, "an input", "Input").strip().split(","), _INPUT, check, ())
    for own in (each for each in RULE_OPTIONS if each in arguments):
        check.add(option_of(own), "belongs to a rule, not to a single input")
    check.raise_if_any()
    return arguments


def parse_output(text: str) -> Arguments:
    """Reads one output without a rule around it.

    Raises:
        RuleError: with every problem, under the field's name.
    """
    check = ProblemCollector()
    arguments = _read(_text(text, "an output", "Output").strip().split(","), _OUTPUT, check, ())
    check.raise_if_any()
    return arguments


def parse_options(text: str, noun: Noun) -> Arguments:
    """Reads options without an endpoint, such as ``ttl=16,dscp=46``.

    The value of an option that is ``default`` is None.

    Raises:
        RuleError: with every problem, under the option's name.
    """
    side = _INPUT if noun == "input" else _OUTPUT
    check = ProblemCollector()
    arguments: Arguments = {}
    for piece in text.split(",") if text else ():
        key, _, value = piece.partition("=")
        if value == "default" and key in side.options:
            arguments[side.options[key].argument] = None
        else:
            _read_option(piece, side, check, (), arguments)
    check.raise_if_any()
    return arguments


def join_arguments(arguments: Sequence[str]) -> list[str]:
    """The rules of a command line: one per argument, or a single one spread over all of them.

    ``["A to B", "C to D"]`` are two rules; ``["A", "to", "B"]`` is one without quotes, and so is
    ``["A", "B"]``, where no argument could be a rule by itself.
    """
    loose = any(argument in (*SEPARATORS, "-", ">") for argument in arguments)
    if loose or (arguments and not any(re.search(r"\s|->", argument) for argument in arguments)):
        return [" ".join(arguments)]
    return list(arguments)


def format_endpoint(
    address: object,
    interface: str | None,
    port: int | range,
    *,
    sources: Iterable[object] = (),
    options: Iterable[tuple[str, object]] = (),
) -> str:
    """The canonical text of an endpoint; options whose value is None are omitted."""
    prefix = "+".join(str(source) for source in sources)
    host = str(address)
    if interface is not None:
        host = f"{host}%{interface}"
    elif ":" in host:
        host = f"[{host}]"
    given = "".join(f",{key}={value}" for key, value in options if value is not None)
    return f"{prefix}{'@' if prefix else ''}{host}:{format_ports(port)}{given}"


def format_ports(port: int | range) -> str:
    """The text of a port, or of the first and last of several."""
    return f"{port[0]}-{port[-1]}" if isinstance(port, range) else str(port)


def option_of(argument: str) -> str:
    """The option that gives an argument of a rule: ``class`` is a keyword of Python."""
    return "class" if argument == "traffic_class" else argument


def option_help(noun: Noun) -> list[tuple[str, str]]:
    """The options of an endpoint, each as its text, such as ``ttl=1-255``, and its meaning."""
    side = _INPUT if noun == "input" else _OUTPUT
    return [(f"{key}={each.values}", each.meaning) for key, each in side.options.items()]


class _Option(NamedTuple):
    """An option of an endpoint."""

    argument: str
    """The constructor's argument."""
    read: Callable[[str], object]
    """Text to its value."""
    values: str
    """The values that it accepts, as help shows them."""
    meaning: str


class _Side(NamedTuple):
    """The difference between inputs and outputs."""

    noun: Noun
    address: str
    read_address: Callable[[object], object]
    options: dict[str, _Option]


def _switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise Invalid(f"must be 'on' or 'off', not {text!r}")
    return text == "on"


_INPUT = _Side(
    "input",
    "group",
    fields.group,
    {
        "name": _Option("name", fields.rule_name, "NAME", "name in commands and reports"),
        "vlan": _Option(
            "vlan",
            number(fields.vlan),
            "1-4094",
            "match frames with this VLAN tag (packet only)",
        ),
        "expect": _Option(
            "expect",
            Expectation.parse,
            "2s+8mbps~20%+1source",
            "raise an alarm unless this arrives",
        ),
        "join": _Option("join", fields.join, "each|none", "join each group of a block, or none"),
        "seq": _Option(
            "seq",
            fields.sequence,
            "rtp|ts|mold|mcr|none",
            "how datagrams are numbered; OFFSET:WIDTH, too",
        ),
        "merge": _Option(
            "merge",
            redundancy.merge,
            "rtp|mold|failover",
            "merge several inputs; hash, seq:OFFSET:WIDTH",
        ),
        "late": _Option("late", redundancy.late, "send|drop", "what a merge passed over already"),
        "after": _Option("after", redundancy.after, "200ms", "the silence before a failover"),
        "reorder": _Option("reorder", redundancy.reorder, "5ms", "hold gaps open, send in order"),
        "class": _Option(
            "traffic_class", shaping.class_name, "NAME", "class of traffic of the copies"
        ),
    },
)
_OUTPUT = _Side(
    "output",
    "address",
    fields.destination,
    {
        "ttl": _Option(
            "ttl", number(fields.output_ttl), "1-255|keep|decrement", "TTL or hop limit"
        ),
        "dscp": _Option("dscp", number(fields.output_dscp), "0-63|keep", "DSCP"),
        "source": _Option(
            "source", fields.output_source, "ADDRESS|keep", "source address; keep: the sender's"
        ),
        "sport": _Option(
            "source_port",
            number(fields.output_source_port),
            "1-65535|keep",
            "source port; keep: the sender's",
        ),
        "loop": _Option("loop", _switch, "on|off", "whether this host hears the copies too"),
        "priority": _Option(
            "priority",
            number(fields.priority),
            "0-6",
            "priority in the queues of this host",
        ),
        "rate": _Option("rate", rates.rate, "50mbit|20kpps", "the most to send a second"),
        "burst": _Option("burst", number(rates.burst), "AMOUNT", "the most to send at once"),
        "queue": _Option("queue", rates.queue, "20ms", "how long what exceeds a rate may wait"),
        "pace": _Option("pace", _switch, "on|off", "whether copies leave evenly spaced"),
    },
)


def _text(value: object, what: str, kind: str) -> str:
    if not isinstance(value, str):
        given = type(value).__name__
        raise ArgumentError(f"{what} must be an mcr.{kind} or a string, not {given}")
    return value


def _rule_options(sources: list[Arguments], check: ProblemCollector) -> Arguments:
    """The options of the rule, taken out of its inputs."""
    options: Arguments = dict.fromkeys(RULE_OPTIONS)
    for at, source in enumerate(sources, 1):
        for own in RULE_OPTIONS:
            value = source.pop(own, None)
            if value is not None and options[own] is not None:
                check.add(("input", at, option_of(own)), "is given twice; write it on one input")
            options[own] = options[own] if value is None else value
    return options


def _halves(tokens: list[str]) -> tuple[list[list[str]], list[str]]:
    """The comma-separated pieces of each input, and the tokens of the outputs."""
    at = next((at for at, token in enumerate(tokens) if token in SEPARATORS), None)
    if at is None:
        tokens = " ".join(tokens).replace("->", " -> ", 1).split()
        at = tokens.index("->") if "->" in tokens else None
    if at is None:
        raise RuleError([_no_separator(tokens)])
    head, tail = tokens[:at], tokens[at + 1 :]
    if any(token in SEPARATORS for token in tail):
        raise RuleError([("outputs", "second 'to'; write each rule as one argument, in quotes")])
    if not head:
        raise RuleError([("input", "missing before 'to'; write address%interface:port")])
    inputs = " ".join(head).split(" + ")
    for text in inputs:
        if "+" in text.split(",")[0].rpartition("@")[2]:
            raise RuleError([("input", "several inputs need spaces: write 'INPUT + INPUT to'")])
        if not text or " " in text:
            raise RuleError(
                [
                    (
                        "input",
                        f"{text!r} contains a space; write 'INPUT + INPUT to' for several inputs,"
                        " each without spaces",
                    )
                ]
            )
    return [text.split(",") for text in inputs], tail


def _no_separator(tokens: list[str]) -> tuple[str, str]:
    """The problem of a rule without ``to``, such as what a shell leaves of an unquoted ``->``."""
    if not tokens:
        return "", "the rule is empty; write 'input to output'"
    if any(token.endswith("-") for token in tokens):
        return "outputs", f"missing after '-': {_REDIRECT}"
    if any(">" in token or token == "=" for token in tokens):
        return "outputs", "missing: write 'to' between input and outputs"
    if len(tokens) > 1:
        return "outputs", (
            "missing: there is no 'to' between input and outputs; write 'input to output' (a '>'"
            " would be read by the shell)"
        )
    return "outputs", f"missing: the rule ends after its input; if it had a '>', {_REDIRECT}"


def _split_outputs(tokens: list[str], known: Container[str]) -> list[list[str] | str]:
    """Each output as its comma-separated pieces: endpoint first, then options; or a known text."""
    outputs: list[list[str] | str] = []
    for token in tokens:
        if token in known:
            outputs.append(token)
            continue
        pieces: list[str] = []
        for piece in filter(None, token.split(",")):
            if not pieces or ("=" not in piece and ":" in piece):
                pieces = []
                outputs.append(pieces)
            pieces.append(piece)
    return outputs


def _read(pieces: list[str], side: _Side, check: ProblemCollector, path: FieldPath) -> Arguments:
    """The arguments of an endpoint, as far as they can be read; `check` gets the problems."""
    arguments: Arguments = {}
    endpoint, *options = pieces
    if side is _INPUT and any("@" in option.partition("=")[0] for option in options):
        check.add((*path, "sources"), "must be joined by '+'; write SOURCE+SOURCE@GROUP")
        return arguments
    if "=" in endpoint and ":" not in endpoint:
        check.add((*path, side.address), f"missing before {endpoint!r}; options follow a comma")
    else:
        _read_endpoint(endpoint, side, check, path, arguments)
    for option in options:
        _read_option(option, side, check, path, arguments)
    own = "sources" if side is _INPUT else "source"
    check.same_family((*path, own), arguments.get(own), arguments.get(side.address))
    check.joinable((*path, "join"), arguments.get("join"), arguments.get(side.address))
    return arguments


def _read_endpoint(
    text: str, side: _Side, check: ProblemCollector, path: FieldPath, arguments: Arguments
) -> None:
    """Adds the part before the options to `arguments`, or notes its problems."""

    def add(field: str, parse: Callable[[Any], object], value: object) -> None:
        parsed = check.field((*path, field), parse, value)
        if parsed is not None:
            arguments[field] = parsed

    senders, at, rest = text.rpartition("@")
    if at and side is _OUTPUT:
        check.add(
            (*path, "source"), "is written before '@' in inputs only; write ',source=ADDRESS'"
        )
    elif at:
        add("sources", fields.sources, [bare_address(sender) for sender in senders.split("+")])
    try:
        address, interface, port = split_endpoint(rest)
    except Invalid as error:
        check.add((*path, side.address), str(error))
        return
    add(side.address, side.read_address, address)
    if interface is not None:
        add("interface", read_interface, interface)
    if port is None:
        check.add((*path, "port"), f"missing in {rest!r}; write address%interface:port")
    else:
        add("port", read_ports, port)


def _read_option(
    text: str, side: _Side, check: ProblemCollector, path: FieldPath, arguments: Arguments
) -> None:
    """Adds ``key=value`` to `arguments`, or notes its problem."""
    key, equals, value = text.partition("=")
    option = side.options.get(key)
    field = (*path, key) if key else path
    if option is None:
        check.add(field, _unknown_option(key, side))
    elif not equals or not value:
        check.add(field, f"needs a value; write {key}=VALUE")
    elif option.argument in arguments:
        check.add(field, "is given twice")
    else:
        parsed = check.field(field, option.read, value)
        if parsed is not None:
            arguments[option.argument] = parsed


def _unknown_option(key: str, side: _Side) -> str:
    other = _OUTPUT if side is _INPUT else _INPUT
    if not key:
        return "there is an empty option; omit the comma, or write key=value after it"
    if key in other.options:
        return f"is an option of the {other.noun}, not of the {side.noun}"
    hint = suggestion(key, [*side.options, *other.options], after=" ")
    known = ", ".join(side.options)
    return f"is not an option; {hint}the options of an {side.noun} are {known}"

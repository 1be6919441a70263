"""Rules as frozen values: an `Input`, the `Output`s it is copied to, and the `Rule` of both.

Construction parses: a value that exists is valid in itself, and all problems are reported at once.
`fields` checks each value, `resolver` the rule on this host, `proposal` it beside other rules;
`grammar` reads and writes its text.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..errors import ArgumentError, Problem, RuleError
from . import fields, grammar, redundancy
from .expectation import Expectation
from .fields import Address, Invalid, Join, Network, ProblemCollector
from .output import Output, checked_output, fill
from .redundancy import MERGE_OPTIONS, Late, check_merge
from .shaping import class_name

_ID_HEX_DIGITS = 12
_NOTHING: Mapping[str, Output] = MappingProxyType({})
_INPUT_DEFAULTS: Mapping[str, object] = {
    "interface": None,
    "sources": (),
    "vlan": None,
    "join": None,
    "seq": None,
}
_PARTS = ("input", "others", "outputs", "name", "expect", *MERGE_OPTIONS, "traffic_class")


@dataclass(frozen=True, slots=True, init=False)
class Input:
    """The input of a rule: datagrams to an address and port, or to many, on one interface."""

    group: Address | Network
    """A multicast group, a block of groups, an address of this host, or a broadcast address of an
    interface."""
    port: int | range
    """1 to 65535, or a range, whose stop is the last port plus one as usual."""
    interface: str | None
    """Required for a group and 255.255.255.255; for other addresses, None means the interface that
    has the address."""
    sources: tuple[Address, ...]
    """The accepted senders, ascending; empty accepts any."""
    vlan: int | None
    """The VLAN id of accepted frames, 1 to 4094; None accepts untagged frames."""
    join: Join | None
    """``each`` joins every group, ``none`` joins no group; None joins each of up to 2048 groups,
    and none of more."""
    seq: str | None
    """How its datagrams are numbered: ``rtp``, ``rtp/CLOCK_HZ``, ``ts``, ``mold``, ``mcr``,
    ``OFFSET:WIDTH`` or ``OFFSET:WIDTHle`` (bytes and bits), or ``none``; None recognises it."""

    def __init__(
        self,
        group: Address | Network | str,
        port: int | range,
        *,
        interface: str | None = None,
        sources: Iterable[Address | str] = (),
        vlan: int | None = None,
        join: Join | None = None,
        seq: str | None = None,
    ) -> None:
        """Parses every field.

        Raises:
            RuleError: with a problem for each invalid field.
        """
        check = ProblemCollector()
        values = {
            "group": check.field("group", fields.group, group),
            "port": check.field("port", fields.ports, port),
            "interface": check.optional("interface", fields.interface, interface),
            "sources": check.field("sources", fields.sources, sources) or (),
            "vlan": check.optional("vlan", fields.vlan, vlan),
            "join": check.optional("join", fields.join, join),
            "seq": check.optional("seq", fields.sequence, seq),
        }
        check.same_family("sources", values["sources"], values["group"])
        check.joinable("join", values["join"], values["group"])
        check.raise_if_any()
        fill(self, values)

    @classmethod
    def parse(cls, text: str) -> "Input":
        """The input written as ``10.0.0.5@232.1.1.1%eth0:5001,vlan=7``.

        Raises:
            RuleError: with all problems of the text.
        """
        return _checked_input(grammar.parse_input(text))

    @property
    def effective_join(self) -> Join:
        """Whether its groups are joined; meaningless for an address that is not a group."""
        few = 2 ** fields.block_bits(self.group) <= fields.JOIN_DEFAULT_GROUPS
        return self.join or ("each" if few else "none")

    def __str__(self) -> str:
        """The canonical text."""
        return _input_text(self, {})


@dataclass(frozen=True, slots=True, init=False)
class Rule:
    """An input, or several that are merged, and the outputs that get a copy of each datagram."""

    input: Input
    """The first input."""
    others: tuple[Input, ...]
    """The other inputs, which are merged with the first."""
    outputs: tuple[Output, ...]
    """At least one, in the order of the statistics."""
    name: str | None
    """1 to 64 printable characters without space and comma; not part of the identity."""
    expect: Expectation | None
    """What an alarm follows from; None uses the default of the relay. Not part of the identity."""
    merge: str | None
    """By what datagrams of several inputs are known to be the same: ``rtp``, ``mold``, ``hash``,
    ``seq:OFFSET:WIDTH`` or ``seq:OFFSET:WIDTHle`` (bytes and bits); or ``failover``, which sends
    one input at a time. None for a single input."""
    late: Late | None
    """Whether to ``send`` or ``drop`` what no input delivered before later ones; None sends."""
    after: str | None
    """The silence, such as ``2s``, after which a failover sends another input; None is 200 ms."""
    reorder: str | None
    """How long, such as ``5ms``, what is ahead of a gap is held, so that it is sent in order; None
    sends it at once."""
    traffic_class: str | None
    """The class of its copies (``class=``); None is ``default``. Not part of the identity."""
    _id: str | None = field(init=False, repr=False, compare=False)
    """That of before it was edited."""
    _text_id: str | None = field(init=False, repr=False, compare=False)
    _canonical: str | None = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        input: Input,
        outputs: Iterable[Output],
        *,
        others: Iterable[Input] = (),
        name: str | None = None,
        expect: Expectation | str | None = None,
        merge: str | None = None,
        late: Late | None = None,
        after: str | None = None,
        reorder: str | None = None,
        traffic_class: str | None = None,
    ) -> None:
        """Combines the parts; `expect` may be text, such as ``2s+1000pps+1source``.

        `others` are up to three inputs that are merged with the first, by `merge`.

        Raises:
            RuleError: there is no output, the name, the expectation or the type of a part is
                invalid, or an output has several addresses or ports, but not as many as the input.
        """
        check = ProblemCollector()
        values = {
            "input": check.field("input", _input, input),
            "others": check.field("others", _other_inputs, others),
            "outputs": check.field("outputs", _outputs, outputs),
            "name": check.optional("name", fields.rule_name, name),
            "expect": check.optional("expect", Expectation.parse, expect),
            "merge": check.optional("merge", redundancy.merge, merge),
            "late": check.optional("late", redundancy.late, late),
            "after": check.optional("after", redundancy.after, after),
            "reorder": check.optional("reorder", redundancy.reorder, reorder),
            "traffic_class": check.optional("class", class_name, traffic_class),
        }
        check.raise_if_any()
        self._combine(values)

    def _combine(self, values: Mapping[str, object]) -> None:
        """Sets the parts, which are valid in themselves, and checks whether they fit each other."""
        fill(self, {**values, "_id": None, "_text_id": None, "_canonical": None})
        check = ProblemCollector()
        numbered = tuple(enumerate(self.outputs, 1))
        _check_sizes(self.input, numbered, check)
        _check_kept_sources(self.inputs, numbered, check)
        check_merge(self.inputs, self.merge_options, check)
        check.raise_if_any()

    @classmethod
    def parse(cls, text: str, known: Mapping[str, Output] = _NOTHING) -> "Rule":
        """The rule written as ``239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001``.

        Args:
            text: the rule.
            known: outputs by their canonical text; the rule has these instead of equal ones.

        Raises:
            RuleError: with all problems of the text.
            ArgumentError: `text` is not a string.
        """
        parts = grammar.parse_rule(text, known)
        outputs = [
            known[each] if isinstance(each, str) else checked_output(each) for each in parts.outputs
        ]
        first, *others = map(_checked_input, parts.inputs)
        check = ProblemCollector()
        values = {
            "input": first,
            "others": check.field("others", _other_inputs, others),
            "outputs": tuple(outputs),
            **parts.options,
        }
        check.raise_if_any()
        rule = object.__new__(cls)
        rule._combine(values)
        return rule

    @property
    def inputs(self) -> tuple[Input, ...]:
        """All inputs, in order."""
        return (self.input, *self.others)

    @property
    def merge_options(self) -> dict[str, str | None]:
        """How its inputs are merged: the options that need several, by name."""
        return {name: getattr(self, name) for name in MERGE_OPTIONS}

    @property
    def feed(self) -> "Feed":
        """What its outputs get copies of."""
        return self.inputs, *self.merge_options.values()

    @property
    def id(self) -> str:
        """12 hex digits, the same on every host; the name, `expect` and class are not part of it.

        A rule that was edited while it ran keeps the id that it had before.
        """
        return self._id or self._text_id or self.text_id

    @property
    def is_edited(self) -> bool:
        """Whether it was edited while it ran, so that its id may not be that of its text."""
        return self._id is not None

    @property
    def text_id(self) -> str:
        """The id of a rule with this text that was not edited."""
        if self._text_id is None:  # once: each reading of the counters of 10 000 rules uses it
            own = (self.name, self.expect, self.traffic_class)
            text = str(self) if own == (None, None, None) else self._text({})
            digest = hashlib.sha256(text.encode()).hexdigest()
            object.__setattr__(self, "_text_id", digest[:_ID_HEX_DIGITS])
        return str(self._text_id)

    def with_id(self, rule_id: str) -> "Rule":
        """The same rule with the id that it had before it was edited."""
        return self._with({}, rule_id)

    def edited(
        self,
        outputs: tuple[Output, ...],
        *,
        name: str | None,
        expect: Expectation | str | None,
        traffic_class: str | None,
        new: Iterable[int],
    ) -> "Rule":
        """The rule with other outputs, another name, expectation and class; it keeps its id.

        Args:
            outputs: all outputs, at least one.
            name: the name.
            expect: the expectation.
            traffic_class: the class.
            new: the places of the outputs that this rule does not have.

        Raises:
            RuleError: with all problems of what is new.
        """
        check = ProblemCollector()
        name = check.optional("name", fields.rule_name, name)
        parsed = check.optional("expect", Expectation.parse, expect)
        traffic_class = check.optional("class", class_name, traffic_class)
        if not outputs:
            check.add("outputs", "none would be left; remove the rule instead")
        numbered = [(place + 1, outputs[place]) for place in new]
        _check_sizes(self.input, numbered, check)
        _check_kept_sources(self.inputs, numbered, check)
        check.raise_if_any()
        own = {"name": name, "expect": parsed, "traffic_class": traffic_class}
        return self._with({"outputs": outputs, **own}, self.id)

    def _with(self, changed: Mapping[str, object], rule_id: str) -> "Rule":
        rule = object.__new__(Rule)
        parts = {each: getattr(self, each) for each in _PARTS}
        fresh = {"_id": rule_id, "_text_id": None, "_canonical": None}
        fill(rule, {**parts, **changed, **fresh})
        return rule

    def __str__(self) -> str:
        """The canonical text, which `parse` reads back.

        Only an interface name that contains a character of the grammar cannot be read back.
        """
        if self._canonical is None:  # once, as a configuration is compared with all rules by it
            own = {"name": self.name, "expect": self.expect, "class": self.traffic_class}
            object.__setattr__(self, "_canonical", self._text(own))
        return str(self._canonical)

    def _text(self, own: Mapping[str, object]) -> str:
        outputs = " ".join(str(output) for output in self.outputs)
        options = {**own, **self.merge_options}
        *before, last = self.inputs
        inputs = [*map(str, before), _input_text(last, options)]
        return f"{' + '.join(inputs)} to {outputs}"


Feed = tuple[tuple[Input, ...] | str | None, ...]
"""The inputs of a rule, and how they are merged."""


def parse_rules(rules: Iterable[Rule | str]) -> tuple[Rule, ...]:
    """Parses rules given as values or as text.

    Raises:
        RuleError: with the problems of all rules, under ``rule N``, counted from 1.
        ArgumentError: a single rule instead of a sequence.
    """
    if isinstance(rules, Rule | str) or not isinstance(rules, Iterable):
        raise ArgumentError("rules must be a sequence; write [rule] for a single one")
    parsed: list[Rule] = []
    problems: list[Problem] = []
    for number, rule in enumerate(rules, 1):
        try:
            parsed.append(rule if isinstance(rule, Rule) else Rule.parse(rule))
        except RuleError as error:
            problems += [problem.under("rule", number) for problem in error.problems]
    if problems:
        raise RuleError(problems)
    return tuple(parsed)


def counted(rules: int) -> str:
    """The number of rules with its noun, such as ``1 rule``."""
    return f"{rules} rule" if rules == 1 else f"{rules} rules"


def _checked_input(arguments: grammar.Arguments) -> Input:
    """The input with arguments that the grammar has read, and so checked."""
    rule_input = object.__new__(Input)
    fill(rule_input, {**_INPUT_DEFAULTS, **arguments})
    return rule_input


def _input(value: object) -> Input:
    if not isinstance(value, Input):
        raise Invalid(f"must be an mcr.Input, not {value!r}")
    return value


def _other_inputs(value: object) -> tuple[Input, ...]:
    if isinstance(value, Input | str) or not isinstance(value, Iterable):
        raise Invalid(f"must be a sequence of mcr.Input, not {value!r}")
    others = tuple(map(_input, value))
    if len(others) >= fields.INPUT_LIMIT:
        raise Invalid(f"must be at most {fields.INPUT_LIMIT - 1} inputs, not {len(others)}")
    return others


def _outputs(value: object) -> tuple[Output, ...]:
    if isinstance(value, Output | str) or not isinstance(value, Iterable):
        raise Invalid(f"must be a sequence of mcr.Output, not {value!r}")
    outputs = tuple(value)
    if not outputs:
        raise Invalid("must have at least one output")
    for output in outputs:
        if not isinstance(output, Output):
            raise Invalid(f"must be mcr.Output, not {output!r}")
    return outputs


def _check_sizes(
    input: Input, outputs: Iterable[tuple[int, Output]], check: ProblemCollector
) -> None:
    """Notes numbered outputs with several addresses or ports, but not as many as the input."""
    advice = "give both the same number, or the output a single one"
    groups, ports = fields.block_bits(input.group), fields.port_count(input.port)
    for number, output in outputs:
        if isinstance(output.port, int) and not isinstance(output.address, Network):
            continue
        addresses, targets = fields.block_bits(output.address), fields.port_count(output.port)
        if addresses not in (0, groups):
            check.add(
                ("output", number, "address"),
                f"{output.address} has {2**addresses} addresses, but the input {input.group} has"
                f" {2**groups}; {advice}",
            )
        if targets not in (1, ports):
            check.add(
                ("output", number, "port"),
                f"{grammar.format_ports(output.port)} has {targets} ports, but the input"
                f" {grammar.format_ports(input.port)} has {ports}; {advice}",
            )


def _check_kept_sources(
    inputs: Iterable[Input], outputs: Iterable[tuple[int, Output]], check: ProblemCollector
) -> None:
    """Notes each output of another IP version than the sender's address that it keeps."""
    pairs = [(each.group, own) for own in outputs for each in inputs]
    for group, (number, output) in pairs:
        address = output.address
        if output.source != "keep" or isinstance(address, str):
            continue
        if address.version != group.version:
            check.add(
                ("output", number, "source"),
                f"the sender's address cannot be kept: {group} is IPv{group.version}, but"
                f" {address} is IPv{address.version}",
            )


def _input_text(input: Input, options: Mapping[str, object]) -> str:
    return grammar.format_endpoint(
        input.group,
        input.interface,
        input.port,
        sources=input.sources,
        options=[
            ("name", options.get("name")),
            ("vlan", input.vlan),
            ("expect", options.get("expect")),
            ("join", input.join),
            ("seq", input.seq),
            *((name, options.get(name)) for name in MERGE_OPTIONS),
            ("class", options.get("class")),
        ],
    )

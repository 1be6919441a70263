"""A proposed change of the rules, checked for duplicates, names, loops and precedence.

Each rule on its own is resolved in `resolver`. A proposal reads the running rules and changes
only itself.
"""

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from types import MappingProxyType

from ..errors import FieldPath, Problem, RuleError
from .active_rule import ActiveRule
from .copy_key import CopyKey, copy_keys
from .cycles import cycles
from .fields import Address, ProblemCollector
from .layout import Layout, new_outputs
from .lint import goes_before, goes_behind
from .local_host import LocalHost
from .loops import FlowKey, ListenerIndex, flows_overlap, input_flow, output_flow
from .memberships import MembershipCounts
from .model import Feed, Rule
from .precedence import Precedence, Rank, rank
from .replacement import Replacement
from .resolver import RuleResolver
from .rule_index import RuleIndex
from .shaping import Shaping
from .spec import ResolvedInput, ResolvedOutput, ResolvedRule

_NAME: FieldPath = ("name",)
_NOTHING: Mapping[str, Layout] = MappingProxyType({})


class Proposal:
    """A requested change of running rules, which it only reads."""

    def __init__(
        self,
        running: Mapping[str, ActiveRule],
        indexes: RuleIndex,
        host: LocalHost,
        resolver: RuleResolver,
        *,
        keep: Container[str] = (),
        layouts: Mapping[str, Layout] = _NOTHING,
        uncounted: str | None = None,
        shaping: Shaping,
    ) -> None:
        """Starts with the running rules, unchanged.

        Args:
            running: the rules by their ids.
            indexes: of these rules.
            host: the host on which they run.
            resolver: resolves rules on this host.
            keep: ids of rules that stay as they are when they are added again.
            layouts: the layouts of edited rules, by their ids.
            uncounted: why no senders are counted; None if they are.
            shaping: the classes after the change.
        """
        self.check = ProblemCollector()
        self.warnings: list[Problem] = []
        self.removed: dict[str, None] = {}
        self.entries: dict[str, ActiveRule] = {}
        self.kept: list[str] = []
        self.layouts: dict[str, Layout] = {}
        """For rules that replace themselves: which outputs they had before."""
        self.replaced: dict[str, str] = {}
        """For rules that replace another one with the same input, or themselves: its id."""
        self._running = running
        self._indexes = indexes
        self._host = host
        self._resolver = resolver
        self._keep = keep
        self._layouts = layouts
        self._uncounted = uncounted
        self._shaping = shaping
        self._claims: dict[Hashable, str] = {}
        self._has_new_copies = False
        self._heirs: dict[str, str] = {}
        self._given_up: set[Hashable] = set()
        self._inputs: dict[Feed, list[str]] | None = None
        self._changed_outputs: dict[str, Sequence[ResolvedOutput]] = {}
        self._listeners = ListenerIndex()
        self._memberships = MembershipCounts(indexes.memberships)
        self._precedence = Precedence()
        self._numbers: dict[str, int] = {}
        self._given = 0
        self._named_sources: set[Address] | None = None

    def change(self, remove: Iterable[str], add: Iterable[Rule | str]) -> None:
        """Removes and adds rules.

        Raises:
            RuleError: with all problems.
        """
        for rule_id in remove:
            self.remove(rule_id)
        for rule in add:
            self.add(rule)
        self.find_loops()
        self.check.raise_if_any()
        self.note_precedence()

    def remove(self, rule_id: str) -> None:
        """Removes a running rule."""
        if rule_id not in self._running:
            self.check.add("remove", f"there is no running rule with the id {rule_id!r}")
        elif rule_id not in self.removed:
            self.removed[rule_id] = None
            for each in self._running[rule_id].resolved.inputs:
                self._memberships.remove(each)

    def add(self, rule: Rule | str) -> None:
        """Adds a rule if it fits the host and the other rules, or keeps the running one."""
        self._given += 1
        check = ProblemCollector()
        try:
            parsed = rule if isinstance(rule, Rule) else Rule.parse(rule)
        except RuleError as error:
            check.problems += error.problems
        else:
            self._add(parsed, check, self._given)
        self.check.problems += [problem.under("rule", self._given) for problem in check.problems]

    def _add(self, rule: Rule, check: ProblemCollector, number: int) -> None:
        rule_id = rule.id
        is_kept = rule_id in self._keep and not self._is_other(rule)
        replacement = self._replacement(None if is_kept else self._before(rule), rule)
        resolved, warnings = (
            (None, []) if is_kept else self._resolver.resolve(rule, check, replacement)
        )
        self.warnings += [warning.under("rule", number) for warning in warnings]
        if rule_id in self._numbers or (not is_kept and self._entry(rule_id) is not None):
            label = self._label(rule_id)
            check.add(
                "",
                f"has the id {rule_id} of {label}, which was edited; edit that one, or remove it"
                " first"
                if self._is_other(rule)
                else f"is the same as {label}; omit one",
            )
            return
        self._numbers[rule_id] = number
        self._check_id(rule, check)
        self._check_class(rule, check)
        if rule.name is not None:
            self._claim(rule.name, self._holder(rule.name), rule_id, check, _NAME)
        if is_kept:
            self.kept.append(rule_id)
        if rule.expect is not None and rule.expect.sources and self._uncounted and not is_kept:
            text = f"the number of sources is not watched: {self._uncounted}"
            self.warnings.append(Problem(("rule", number, "expect"), text))
        if resolved is not None:
            resolved = self._as_known(resolved)
            entry = ActiveRule.of(
                rule,
                resolved,
                host=None if warnings or _has_names(rule, replacement.layout) else self._host,
                before=replacement.before,
                layout=replacement.layout,
            )
            self._claim_copies(entry, check, replacement)
            for each in resolved.inputs:
                self._check_interface(each, check)
            self.entries[rule_id] = entry
            if replacement.before is not None and replacement.before.id == rule_id:
                self.layouts[rule_id] = replacement.layout
            for each in resolved.inputs:
                much = self._memberships.add(each)
                if much and not self._host.is_loopback(each.device):
                    self.warnings.append(Problem(("rule", number, "input", "join"), much))
                self._precedence.add(rule_id, each)
            self._listeners.add(entry.flows, rule_id)

    def _is_other(self, rule: Rule) -> bool:
        """Whether the rule with its id was edited since it was this one."""
        running = self._running.get(rule.id)
        return (
            running is not None
            and running.rule.is_edited
            and not rule.is_edited
            and running.rule.outputs != rule.outputs
        )

    def _replacement(self, before: ActiveRule | None, rule: Rule) -> Replacement:
        return Replacement(before, rule, self._host, self._layouts.get(rule.id))

    def _before(self, rule: Rule) -> ActiveRule | None:
        """The removed rule that this one replaces: itself, or one with the same input."""
        if not self.removed:
            return None
        if self._inputs is None:
            self._inputs = {}
            for each in self.removed:
                self._inputs.setdefault(self._running[each].rule.feed, []).append(each)
        same_input = self._inputs.get(rule.feed, [])
        before = rule.id if rule.id in same_input else next(iter(same_input), None)
        if before is None:
            return None
        same_input.remove(before)
        self.replaced[rule.id] = before
        return self._running[before]

    def _as_known(self, rule: ResolvedRule) -> ResolvedRule:
        """The rule; it keeps its input as it was if this host has only lost the input's address."""
        before = self._running.get(rule.id)
        if rule.input.is_known or before is None or not before.resolved.input.is_known:
            return rule
        return replace(rule, input=before.resolved.input)

    def _check_class(self, rule: Rule, check: ProblemCollector) -> None:
        if rule.traffic_class is not None and rule.traffic_class not in self._shaping.classes:
            check.add("class", self._shaping.unknown(rule.traffic_class))

    def _check_id(self, rule: Rule, check: ProblemCollector) -> None:
        """Refuses a name that is the id of another rule, since it would refer to both."""
        name, namesake = rule.name, self._holder(rule.id)
        if name is not None and name != rule.id and self._entry(name) is not None:
            check.add("name", f"{name!r} is the id of {self._label(name)}; choose another")
        if namesake is not None and namesake != rule.id:
            text = f"has the id {rule.id!r}, which is the name of {self._label(namesake)}"
            check.add("", f"{text}; rename that rule")

    def _check_interface(self, rule_input: ResolvedInput, check: ProblemCollector) -> None:
        """Refuses the same address on one interface and on any."""
        if rule_input.is_shared:
            return
        running = self._indexes.precedence.overlapping(rule_input)
        staying = [rule_id for rule_id in running if rule_id not in self.removed]
        for rule_id in staying + self._precedence.overlapping(rule_input):
            other = self._entry(rule_id)
            if other is None or other.resolved.input.everywhere == rule_input.everywhere:
                continue
            label, name = self._label(rule_id), rule_input.interface
            check.add(
                ("input", "interface"),
                f"{label} names {name} for the same address and port; name it here too, or omit it"
                " there"
                if rule_input.everywhere
                else f"{label} receives the same address and port on any interface; name {name}"
                " there too, or omit it here",
            )
            return

    def _claim_copies(
        self,
        entry: ActiveRule,
        check: ProblemCollector,
        replacement: Replacement,
    ) -> None:
        """Claims every copy, so that none is sent twice; refuses copies to the rule's own input."""
        rule, senders = entry.resolved, entry.resolved.senders
        changed, claims = tuple(rule.numbered), iter(entry.copies)
        if replacement.before is not None and not self._has_new_copies:
            # Nobody else can claim what the replaced rule had.
            new = new_outputs(replacement.layout, rule)
            changed = tuple((place + 1, each) for place, own in new.items() for each in own)
            claims = chain.from_iterable(copy_keys(rule, own) for own in new.values())
            self._heirs[replacement.before.id] = rule.id
            self._given_up.update(replacement.given_up())
            self._changed_outputs[rule.id] = [output for _, output in changed]
        taken = [input_flow(each) for each in rule.inputs if each.vlan == 0]
        for number, output in changed:
            if not output.is_resolved:
                continue
            self._has_new_copies = True
            path = ("output", number)
            flow = output_flow(output)
            if any(flows_overlap(flow, each) for each in taken):
                check.add(path, "is the rule's own input: its copies would loop for ever")
            own_claims = list(islice(claims, len(senders)))
            for (rule_input, _), claim in zip(senders, own_claims, strict=True):
                holder = self._holder(claim) or self._overlapping(claim, rule_input.port)
                if not self._claim(claim, holder, rule.id, check, path):
                    break

    def _claim(
        self,
        claim: Hashable,
        holder: str | None,
        rule_id: str,
        check: ProblemCollector,
        path: FieldPath,
    ) -> bool:
        """Notes a claim, or a problem if another output has it already."""
        if holder is None:
            self._claims[claim] = rule_id
            return True
        if path == _NAME and holder == rule_id:  # the rule is kept
            return True
        if path == _NAME:
            check.add(path, f"{claim!r} is the name of {self._place(holder)}; choose another")
        elif holder == rule_id:
            check.add(path, "has the same destination as an earlier output; omit one")
        else:
            check.add(
                path,
                f"{self._label(holder)} already sends the same input there, so every datagram"
                " would arrive twice; omit one",
            )
        return False

    def _holder(self, claim: Hashable) -> str | None:
        holder = self._indexes.holder(claim)
        if holder is None or holder not in self.removed:
            return self._claims.get(claim) if holder is None else holder
        heir = self._heirs.get(holder)
        is_kept = heir is not None and not isinstance(claim, str) and claim not in self._given_up
        return heir if is_kept else self._claims.get(claim)

    def _overlapping(self, claim: CopyKey, port: int) -> str | None:
        """The rule that claims some of the ports by a range as wide that starts elsewhere."""
        for stride in (claim.stride - 1, claim.stride + 1) if claim.width > 1 else ():
            holder = self._holder(claim._replace(stride=stride))
            entry = self._entry(holder) if holder is not None else None
            if entry is not None and abs(entry.resolved.input.port - port) < claim.width:
                return holder
        return None

    def _entry(self, rule_id: str) -> ActiveRule | None:
        running = self._running.get(rule_id) if rule_id not in self.removed else None
        return self.entries.get(rule_id, running)

    def _label(self, rule_id: str) -> str:
        """The name of a rule in messages: its number in this change, else its name or text."""
        if rule_id in self._numbers:
            return f"rule {self._numbers[rule_id]}"
        rule = self._running[rule_id].rule
        return f"the running rule {rule.name or str(rule)!r}"

    def _place(self, rule_id: str) -> str:
        """The same for messages about its name: its id and input tell which rule has it."""
        if rule_id in self._numbers:
            return f"rule {self._numbers[rule_id]}"
        return f"the running rule {rule_id}, which receives {self._running[rule_id].rule.input}"

    def note_precedence(self) -> None:
        """Warns of added rules that match datagrams instead of other rules, or the reverse."""
        for rule_id, entry in self.entries.items():
            rule_input = entry.resolved.input
            before, behind = map(
                self._staying, self._indexes.precedence.ranked_overlaps(rule_input)
            )
            before |= self._precedence.ranked_overlaps(rule_input)[0]
            # Less specific rules of this change get a warning of their own.
            for others, warn in ((before, goes_behind), (behind, goes_before)):
                if others:
                    first, more = next(iter(others)), len(others) - 1
                    warning = warn(rank(rule_input), others[first], self._label(first), more)
                    self.warnings.append(warning.under("rule", self._numbers[rule_id]))

    def _staying(self, running: Mapping[str, Rank]) -> dict[str, Rank]:
        return {rule_id: own for rule_id, own in running.items() if rule_id not in self.removed}

    def find_loops(self) -> None:
        """Notes a problem for each loop that an added rule closes."""
        starts: list[str | FlowKey] = []
        for rule_id, entry in self.entries.items():
            # The other outputs have not closed a loop before.
            outputs = self._changed_outputs.get(rule_id)
            if outputs is None:
                starts.append(rule_id)
            for output in outputs or ():
                starts += self._flows(entry.resolved.input, output)
        for cycle in cycles(starts, self._successors):
            ids = [node for node in cycle if isinstance(node, str)]
            first = next((at for at, rule_id in enumerate(ids) if rule_id in self.entries), None)
            if first is None or len(ids) == 1:  # not of this change, or noted as its own input
                continue
            ids = ids[first:] + ids[:first]
            flows = {node for node in cycle if isinstance(node, FlowKey)}
            number = self._output_towards(ids[0], flows)
            way = ", ".join(self._label(rule_id) for rule_id in ids[1:])
            self.check.add(
                ("rule", self._numbers[ids[0]], "output", number),
                f"makes a loop: its copies come back through {way}; {self._way_out(flows)}",
            )

    def _way_out(self, flows: Iterable[FlowKey]) -> str:
        """The fix for a loop; only `udp` receives on a link what this host sends there."""
        links = [
            flow for flow in flows if flow.interface and not self._host.is_loopback(flow.interface)
        ]
        fix = "omit one of these rules"
        if any(flow.address.is_multicast for flow in links):
            return f"write loop=off on the outputs to groups, or {fix}"
        if links:
            return f"use the ingress 'packet' (--ingress packet), or {fix}"
        return fix

    def _successors(self, node: str | FlowKey) -> Iterable[str | FlowKey]:
        """The flows of a rule's copies; the rules that receive a flow."""
        if isinstance(node, FlowKey):
            running = self._indexes.listeners.matching(node)
            yield from (rule_id for rule_id in running if rule_id not in self.removed)
            yield from self._listeners.matching(node)
        elif (entry := self._entry(node)) is not None:
            for output in entry.resolved.outputs:
                yield from self._flows(entry.resolved.input, output)

    def _flows(self, rule_input: ResolvedInput, output: ResolvedOutput) -> Iterator[FlowKey]:
        """The flows by which copies of an output can reach an input of this host."""
        if self._host.receives(output):
            flow = output_flow(output)
            yield flow
            for sender in self._senders(rule_input, output):
                yield flow._replace(source=sender)

    def _senders(self, rule_input: ResolvedInput, output: ResolvedOutput) -> Iterable[Address]:
        """The source addresses that copies may have, among those that rules name."""
        if output.source != "keep":
            return self._host.senders(output)
        if rule_input.sources:
            return rule_input.sources
        if self._named_sources is None:  # computed once all rules are added
            flows = (*self._indexes.listeners, *self._listeners)
            self._named_sources = {flow.source for flow in flows if flow.source is not None}
        return self._named_sources

    def _output_towards(self, rule_id: str, flows: set[FlowKey]) -> int:
        entry = self.entries[rule_id]
        numbered, rule_input = entry.resolved.numbered, entry.resolved.input
        ways = (
            number
            for number, each in numbered
            if not flows.isdisjoint(self._flows(rule_input, each))
        )
        return next(ways)


def _has_names(rule: Rule, layout: Layout) -> bool:
    """Whether a new output is a host name, which has other addresses at another time."""
    new = (rule.outputs[place] for place in layout if isinstance(place, int))
    return any(isinstance(output.address, str) for output in new)

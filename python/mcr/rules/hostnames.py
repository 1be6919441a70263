"""Host names of outputs and their addresses: looked up, kept, and asked again on demand.

Owns which answers of the system count. Knows neither interfaces nor sockets.
"""

import socket
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..json_codec import JsonObject
from . import fields, name_service
from .fields import Address, Invalid
from .model import Input, Output, Rule

Hosts = Literal["first", "all"]
"""Which addresses of a host name count."""
PATIENCE_S = 3.0
"""How long a rule's names are waited for before it goes on without them, and tries again."""


class Name(NamedTuple):
    """A host name as an output asks for it."""

    host: str
    version: int
    """4 or 6 where the output's source is of that family; 0 takes either."""


ResolvedHosts = Mapping[Name, tuple[Address, ...]]


@dataclass(frozen=True, slots=True)
class HostChange(JsonObject):
    """What looking a host name up again has brought, where it brought something."""

    host: str
    before: tuple[Address, ...]
    after: tuple[Address, ...]
    """The same as before where the name did not resolve."""
    error: str | None = None
    """Why it did not resolve; None where it did."""

    def __str__(self) -> str:
        """One line for a log."""
        before, after = (", ".join(map(str, each)) for each in (self.before, self.after))
        if self.error is not None:
            return f"{self.error}; its copies go on to {before}"
        return f"the host {self.host!r} was {before} and is {after}"


class HostResolver:
    """Addresses by name."""

    def __init__(self, hosts: Hosts = "first", known: ResolvedHosts | None = None) -> None:
        """Start with what is known; nothing is asked yet."""
        self._hosts = hosts
        self._answers = dict(known or {})
        self._failures: dict[Name, Invalid] = {}

    def addresses(self, name: Name) -> tuple[Address, ...]:
        """The addresses of a name, as far as it was looked up.

        Raises:
            Invalid: it does not resolve.
        """
        if name in self._answers:
            return self._answers[name]
        raise self._failures.get(name) or Invalid(_unresolved(name, "there is no answer yet"))

    def look_up(self, rules: Iterable[Rule], patience_s: float = PATIENCE_S) -> "HostResolver":
        """Ask for what these rules need and is not known; not longer than that many seconds."""
        unknown = dict.fromkeys(_names_of(rules))
        questions = [(name, self._hosts) for name in unknown if name not in self._answers]
        found = name_service.look_up(questions, _first_answer, patience_s)
        for (name, _hosts), answer in found.items():
            error = answer.exception()
            if error is None:
                self._answers[name] = answer.result()
            elif isinstance(error, Invalid):
                self._failures[name] = error
            else:
                raise error
        return self

    def ask(self, name: Name) -> "HostResolver":
        """Ask for one name, however long it takes."""
        try:
            self._answers[name] = _ask(name, self._hosts)
        except Invalid as error:
            self._failures[name] = error
        return self

    def known(self, rules: Iterable[Rule]) -> ResolvedHosts:
        """The answers that these rules use, in their order."""
        if not self._answers:
            return {}
        names = _names_of(rules)
        return {name: self._answers[name] for name in names if name in self._answers}


def name_of(output: Output, taken: Input | None) -> Name | None:
    """The host name that an output is sent to; None for an address.

    A source that is kept is of the version of what the rule takes.
    """
    if not isinstance(output.address, str):
        return None
    version = output.source.version if isinstance(output.source, Address) else 0
    if output.source == "keep" and taken is not None:
        version = taken.group.version
    return Name(output.address, version)


def names_of(rule: Rule) -> tuple[Name, ...]:
    """The host names that a rule's outputs are sent to."""
    return tuple(_names_of([rule]))


def uses(rule: Rule, names: Container[Name]) -> bool:
    """Whether an output of the rule is sent to one of these host names."""
    return any(name in names for name in _names_of([rule]))


def resolve_again(
    known: ResolvedHosts, hosts: Hosts
) -> tuple[ResolvedHosts, tuple[HostChange, ...]]:
    """Look all names up again.

    Of several addresses that a name has, the one in use stays as long as it is among them.

    Returns:
        The answers, with the known one where a name does not resolve; and what has changed.
    """
    answers, changes = dict(known), []
    for name, before in known.items():
        try:
            answers[name] = _ask(name, hosts, preferred=before)
        except Invalid as error:
            changes.append(HostChange(name.host, before, before, str(error)))
        else:
            if answers[name] != before:
                changes.append(HostChange(name.host, before, answers[name]))
    return answers, tuple(changes)


def _names_of(rules: Iterable[Rule]) -> Iterator[Name]:
    for rule in rules:
        for output in rule.outputs:
            if (name := name_of(output, rule.input)) is not None:
                yield name


def _first_answer(question: tuple[Name, Hosts]) -> tuple[Address, ...]:
    return _ask(*question)


def _unresolved(name: Name, why: str) -> str:
    wanted = f" to an IPv{name.version} address, as its source is one" if name.version else ""
    return f"the host {name.host!r} does not resolve{wanted}: {why}"


def _ask(name: Name, hosts: Hosts, preferred: tuple[Address, ...] = ()) -> tuple[Address, ...]:
    family = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[name.version]
    try:
        answers = socket.getaddrinfo(name.host, None, family, socket.SOCK_DGRAM)
    except OSError as error:
        raise Invalid(_unresolved(name, error.strerror or str(error))) from None
    found = dict.fromkeys(fields.address(answer[4][0]) for answer in answers)
    if hosts == "first":
        in_use = [address for address in preferred if address in found]
        return tuple(in_use or found)[:1]
    # A server may give them in another order each time.
    return tuple(sorted(found, key=lambda address: (address.version, int(address))))

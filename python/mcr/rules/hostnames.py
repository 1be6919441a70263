"""Host names of outputs: resolved, cached, and resolved again on request.

Chooses which of the addresses of a name are used.
"""

import socket
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from ..choices import Hosts
from . import fields, name_service
from .fields import Address, Invalid
from .host_change import HostChange
from .model import Input, Rule
from .output import Output

TIMEOUT_S = 3.0
"""How long a change waits for host names; a rule then begins without the rest, and they are
retried."""


class HostName(NamedTuple):
    """A host name with the IP version that an output needs."""

    host: str
    version: int
    """4 or 6 if the output's source has that version; 0 accepts either."""


ResolvedHosts = Mapping[HostName, tuple[Address, ...]]


class HostResolver:
    """A cache of the addresses of host names."""

    def __init__(self, hosts: Hosts = "first", known: ResolvedHosts | None = None) -> None:
        """Begin with known answers.

        Args:
            hosts: which addresses of a name are used.
            known: earlier answers.
        """
        self._hosts = hosts
        self._answers = dict(known or {})
        self._failures: dict[HostName, Invalid] = {}

    def addresses(self, name: HostName) -> tuple[Address, ...]:
        """The cached addresses of a name.

        Raises:
            Invalid: the name does not resolve, or has not been resolved yet.
        """
        if name in self._answers:
            return self._answers[name]
        raise self._failures.get(name) or Invalid(_unresolved(name, "there is no answer yet"))

    def look_up(self, rules: Iterable[Rule], timeout_s: float = TIMEOUT_S) -> "HostResolver":
        """Resolve the names of these rules that are not known yet, within the timeout.

        Returns:
            This resolver.
        """
        names = dict.fromkeys(_names_of(rules))
        queries = [(name, self._hosts) for name in names if name not in self._answers]
        answers = name_service.look_up(queries, _resolve_query, timeout_s)
        for (name, _hosts), answer in answers.items():
            error = answer.exception()
            if error is None:
                self._answers[name] = answer.result()
            elif isinstance(error, Invalid):
                self._failures[name] = error
            else:
                raise error
        return self

    def resolve(self, name: HostName) -> "HostResolver":
        """Resolve one name, without a timeout.

        Returns:
            This resolver.
        """
        try:
            self._answers[name] = _resolve(name, self._hosts)
        except Invalid as error:
            self._failures[name] = error
        return self

    def known(self, rules: Iterable[Rule]) -> ResolvedHosts:
        """The answers that these rules use, in the order of the rules."""
        if not self._answers:
            return {}
        names = _names_of(rules)
        return {name: self._answers[name] for name in names if name in self._answers}


def host_name_of(output: Output, rule_input: Input | None) -> HostName | None:
    """The host name of an output; None if it has an address.

    With `source=keep` the output needs the IP version of the rule's input.
    """
    if not isinstance(output.address, str):
        return None
    version = output.source.version if isinstance(output.source, Address) else 0
    if output.source == "keep" and rule_input is not None:
        version = rule_input.group.version
    return HostName(output.address, version)


def uses(rule: Rule, names: Container[HostName]) -> bool:
    """Whether an output of the rule has one of these host names."""
    return any(name in names for name in _names_of([rule]))


def resolve_again(
    known: ResolvedHosts, hosts: Hosts
) -> tuple[ResolvedHosts, tuple[HostChange, ...]]:
    """Resolve all known names again.

    With `hosts="first"`, the address in use stays while the name still has it.

    Returns:
        The new answers, with the known one for each name that does not resolve; and the changes.
    """
    answers, changes = dict(known), []
    for name, before in known.items():
        try:
            answers[name] = _resolve(name, hosts, preferred=before)
        except Invalid as error:
            changes.append(HostChange(name.host, before, before, str(error)))
        else:
            if answers[name] != before:
                changes.append(HostChange(name.host, before, answers[name]))
    return answers, tuple(changes)


def _names_of(rules: Iterable[Rule]) -> Iterator[HostName]:
    for rule in rules:
        for output in rule.outputs:
            if (name := host_name_of(output, rule.input)) is not None:
                yield name


def _resolve_query(query: tuple[HostName, Hosts]) -> tuple[Address, ...]:
    return _resolve(*query)


def _unresolved(name: HostName, reason: str) -> str:
    version = f" to an IPv{name.version} address, which its source needs" if name.version else ""
    return f"the host {name.host!r} does not resolve{version}: {reason}"


def _resolve(
    name: HostName, hosts: Hosts, preferred: tuple[Address, ...] = ()
) -> tuple[Address, ...]:
    family = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[name.version]
    try:
        infos = socket.getaddrinfo(name.host, None, family, socket.SOCK_DGRAM)
    except OSError as error:
        raise Invalid(_unresolved(name, error.strerror or str(error))) from None
    addresses = dict.fromkeys(fields.address(info[4][0]) for info in infos)
    if hosts == "first":
        in_use = [address for address in preferred if address in addresses]
        return tuple(in_use or addresses)[:1]
    # Sorted, because a name server may return them in another order each time.
    return tuple(sorted(addresses, key=lambda address: (address.version, int(address))))

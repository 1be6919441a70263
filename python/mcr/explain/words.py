"""A datagram in words: ``SOURCE:PORT@GROUP%INTERFACE:PORT ttl=4 vlan=7 size=1200``.

The destination is written as the input of a rule. Source, source port and options may be omitted.
"""

import re
from ipaddress import ip_address
from typing import Any

from ..errors import ArgumentError, RuleError
from ..rules import fields
from ..rules.fields import Address, Invalid, ProblemCollector
from ..rules.grammar import parse_input
from ..similar_names import suggestion
from .results import DatagramFacts

SIZE_LIMIT_BYTES = 65527
"""The largest UDP payload: that of IPv6 (RFC 8200)."""
_LIMITS = {"ttl": ("ttl", 255), "dscp": ("dscp", 63), "vlan": ("vlan", 4094)}
_LIMITS["size"] = ("size_bytes", SIZE_LIMIT_BYTES)
"""The options: the field of each, and its largest value."""
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_PORTED = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[^:]*)):(?P<port>[^:]*)")


def parse_datagram(text: str) -> DatagramFacts:
    """Read a datagram in words.

    Raises:
        RuleError: with every problem, under the field's name.
        ArgumentError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise ArgumentError(
            f"a datagram must be an mcr.DatagramFacts or a string, not {type(text).__name__}"
        )
    endpoint, *options = text.replace(",", " ").split() or [""]
    check = ProblemCollector()
    sender, at, destination = endpoint.rpartition("@")
    arguments = _destination(destination, check)
    if at:
        arguments |= _sender(sender, check)
    for option in options:
        _read_option(option, arguments, check)
    if "group" in arguments:
        check.same_family("source", arguments.get("source"), arguments["group"])
    check.raise_if_any()
    return DatagramFacts(**arguments)


def datagram_facts(given: DatagramFacts | str) -> DatagramFacts:
    """Return a datagram that is a value or in words.

    Raises:
        RuleError: as `parse_datagram`.
        ArgumentError: it is neither.
    """
    return given if isinstance(given, DatagramFacts) else parse_datagram(given)


def checked(given: DatagramFacts) -> DatagramFacts:
    """Check a datagram that did not come from text.

    Raises:
        RuleError: with every problem, under the field's name.
    """
    check = ProblemCollector()
    check.field("interface", fields.interface, given.interface)
    _number("port", given.port, 65535, check)
    _number("source_port", given.source_port, 65535, check)
    for field, most in _LIMITS.values():
        _number(field, getattr(given, field), most, check)
    for field, address in (("source", given.source), ("group", given.group)):
        if address is None and field == "source":
            continue
        if not isinstance(address, Address):
            check.add(field, f"must be an address of ipaddress, not {address!r}")
        elif "%" in str(address):
            check.add(field, f"{address} has a zone; the interface is a field of its own")
    check.same_family("source", given.source, given.group)
    check.raise_if_any()
    return given


def _destination(text: str, check: ProblemCollector) -> dict[str, Any]:
    form = "write [SOURCE[:PORT]@]GROUP%INTERFACE:PORT"
    if not text or "=" in text:
        check.add("group", f"missing; {form}")
        return {}
    try:
        arguments = parse_input(text)
    except RuleError as error:
        check.problems += error.problems
        return {}
    group, port = arguments["group"], arguments["port"]
    if not isinstance(group, Address):
        check.add("group", f"{group} is a block; a datagram has one group")
    if isinstance(port, range):
        check.add("port", "is a range; a datagram has one port")
    if "interface" not in arguments:
        check.add("interface", f"missing: on which one does it arrive? {form}")
    return arguments


def _sender(text: str, check: ProblemCollector) -> dict[str, Any]:
    ported = _PORTED.fullmatch(text)
    found: dict[str, Any] = {}
    if ported is not None:
        port = ported["port"]
        if _NUMBER.fullmatch(port):
            found["source_port"] = int(port)
            _number("source_port", int(port), 65535, check)
        else:
            check.add("source_port", f"must be a number from 0 to 65535, not {port!r}")
        text = ported["v6"] if ported["v6"] is not None else ported["v4"]
    text = text.removeprefix("[").removesuffix("]")
    source = check.field("source", _any_source, text)
    return found if source is None else found | {"source": source}


def _any_source(text: str) -> Address:
    """An address; unlike in a rule it may be one that no host can have, as a datagram may."""
    if "%" in text:
        raise Invalid(f"{text!r} has a zone; write the interface after the group")
    try:
        return ip_address(text)
    except ValueError:
        raise Invalid(f"{text!r} is not an IP address") from None


def _read_option(text: str, arguments: dict[str, Any], check: ProblemCollector) -> None:
    key, equals, value = text.partition("=")
    if key not in _LIMITS:
        hint = suggestion(key, _LIMITS, after=" ")
        check.add(key or "option", f"is not an option; {hint}the options are {', '.join(_LIMITS)}")
        return
    field, most = _LIMITS[key]
    if not equals or not _NUMBER.fullmatch(value):
        check.add(key, f"needs a number; write {key}=N, with N from 0 to {most}")
    elif field in arguments:
        check.add(key, "is given twice")
    else:
        arguments[field] = int(value)
        _number(key, int(value), most, check)


def _number(field: str, value: int, most: int, check: ProblemCollector) -> None:
    check.field(field, lambda own: fields.integer(own, 0, most), value)

"""The text of an endpoint before its options: address, interface and port."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from . import fields
from .fields import Invalid

T = TypeVar("T")

GRAMMAR_CHARACTERS = ",+=@%:[]"
"""Characters that an interface name in text cannot contain; other forms of a rule can."""

_KNOWN_TEXTS = 256
"""Thousands of rules have few interfaces and ports."""
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_PORTS = re.compile(r"([0-9]{1,9})-([0-9]{1,9})", re.ASCII)


def number(parse: Callable[[object], T]) -> Callable[[str], T]:
    """A parser of text by `parse`, which gets an integer, or the text itself and refuses it."""
    return lambda text: parse(int(text) if _WHOLE.fullmatch(text) else text)


def split_endpoint(text: str) -> tuple[str, str | None, str | None]:
    """Address, interface and port of ``[v6]%if:port``, ``[v6%if]:port`` or ``address%if:port``."""
    inside, rest = "", text
    if text.startswith("["):
        inside, closed, rest = text[1:].partition("]")
        if not closed:
            raise Invalid(f"{text!r}: the closing ']' is missing")
        if ":" not in inside:
            raise Invalid(f"{text!r}: brackets are for IPv6 addresses only")
        if rest and rest[0] not in "/%:":
            raise Invalid(f"{text!r}: write %interface or :port after ']'")
    elif "%" not in text and text.count(":") > 1:
        raise Invalid(
            f"{text!r}: write an IPv6 address as address%interface:port, without an interface"
            " as [address]:port"
        )
    host, colon, port = rest.rpartition(":")
    ported = colon and "%" not in port
    address, zone, interface = (inside + (host if ported else rest)).partition("%")
    return address, interface if zone else None, port if ported else None


def bare_address(address: str) -> str:
    """The address of a source, without brackets around IPv6."""
    if address.startswith("[") and address.endswith("]") and ":" in address:
        return address[1:-1]
    return address


@lru_cache(_KNOWN_TEXTS)
def read_interface(text: str) -> str:
    """The name of an interface, which rule text can contain."""
    for character in GRAMMAR_CHARACTERS:
        if character in text:
            raise Invalid(
                f"{text!r} contains {character!r}; such an interface can only be named in Python,"
                " with interface="
            )
    return fields.interface(text)


@lru_cache(_KNOWN_TEXTS)
def read_ports(text: str) -> int | range:
    """A port, or a range of them."""
    several = _PORTS.fullmatch(text)
    if several is None:
        if text[:1].isdigit() and "-" in text:
            raise Invalid(f"{text!r} is not a range of ports; write one such as 5000-5099")
        return number(fields.port)(text)
    first, last = int(several[1]), int(several[2])
    if first > last:
        raise Invalid(f"{text!r} is in reverse order; write {last}-{first}")
    return fields.ports(range(first, last + 1))

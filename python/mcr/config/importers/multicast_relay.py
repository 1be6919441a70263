"""The arguments of multicast-relay, which relays groups between interfaces in all directions.

--interfaces IFACE IFACE ... [--relay GROUP:PORT ...] [--noMDNS] [--noSSDP]
[--noSonosDiscovery] [--ttl TTL] ...
"""

import shlex
from collections.abc import Iterable, Iterator

from .imported import Imported

_MDNS, _SSDP, _SONOS = "224.0.0.251:5353", "239.255.255.250:1900", "255.255.255.255:6969"
_BY_DEFAULT = {"--noMDNS": _MDNS, "--noSSDP": _SSDP, "--noSonosDiscovery": _SONOS}
_NEEDLESS = {"--foreground", "--verbose", "--wait", "--homebrewNetifaces"}
_TWO = 2


def read(text: str) -> Imported:
    """The groups as rules, one for each interface that they may arrive on.

    Raises:
        ConfigError: with all problems.
    """
    found = Imported(settings={"ingress": "packet"})
    try:
        options = dict(_options(shlex.split(text, comments=True)))
    except ValueError as error:
        found.refuse(1, f"these are no arguments: {error}")
        return found.finished()
    interfaces = options.pop("--interfaces", [])
    if len(interfaces) < _TWO or not all(map(_is_name, interfaces)):
        found.refuse(1, "needs the names of two or more interfaces: --interfaces eth0 eth1")
        return found.finished()
    groups = [group for option, group in _BY_DEFAULT.items() if option not in options]
    groups += options.pop("--relay", [])
    ttl = next(iter(options.pop("--ttl", [])), "keep")
    for option in options.keys() - _BY_DEFAULT.keys() - _NEEDLESS:
        found.comments.append(f"{option} has no counterpart: {' '.join(options[option])}")
    for group in groups:
        for interface in interfaces:
            others = [each for each in interfaces if each != interface]
            _add(found, group, interface, others, ttl)
    return found.finished()


def _add(found: Imported, group: str, interface: str, others: Iterable[str], ttl: str) -> None:
    address, _, port = group.rpartition(":")
    options = f"ttl={ttl},source=keep,sport=keep"
    outputs = (f"{address}%{each}:{port},{options}" for each in others)
    found.add(1, f"{address}%{interface}:{port} to {' '.join(outputs)}")


def _options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option with its values; what comes before the first is the program."""
    option, values = "", list[str]()
    for word in words:
        if word.startswith("--"):
            if option:
                yield option, values
            option, equals, value = word.partition("=")
            values = [value] if equals else []
        elif option:
            values.append(word)
    if option:
        yield option, values


def _is_name(interface: str) -> bool:
    """Whether an interface is given by name; multicast-relay takes addresses as well."""
    return "/" not in interface and not interface.replace(".", "").isdigit()

"""The routes of this host for IPv4 groups, from the kernel's text (proc(5), /proc/net/route)."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path


def read_group_routes() -> Mapping[str, tuple[IPv4Network, ...]] | None:
    """Return the routes of the main table for groups only, by interface; None if unknown."""
    try:
        lines = Path("/proc/thread-self/net/route").read_text().splitlines()
    except OSError:
        return None
    return parse_group_routes(lines)


def parse_group_routes(lines: Iterable[str]) -> dict[str, tuple[IPv4Network, ...]]:
    """Return the routes for groups only, by interface, in the lines of the text."""
    found: dict[str, tuple[IPv4Network, ...]] = {}
    for line in lines:
        with suppress(ValueError):  # the heading
            name, destination, _, _, _, _, _, mask, *_ = line.split()
            network = IPv4Network((_address(destination), str(_address(mask))))
            if network.is_multicast:
                found[name] = (*found.get(name, ()), network)
    return found


def _address(word: str) -> IPv4Address:
    """An address that the kernel has written as a number of this processor."""
    return IPv4Address(int(word, 16).to_bytes(4, sys.byteorder))

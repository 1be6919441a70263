"""smcroute.conf(5): static multicast routes.

    phyint IFNAME <enable|disable> [mrdisc] [ttl-threshold TTL]
    mgroup from IFNAME [source ADDR[/LEN]] group GROUP[/LEN]
    mroute from IFNAME [source ADDR[/LEN]] group GROUP[/LEN] to IFNAME [IFNAME ...]
    include PATTERN

A route has no ports, and passes datagrams on with their senders and a TTL that is one less.
"""

from .imported import Imported, words_by_line

_ALL_PORTS = "1-65535"
_OPTIONS = "ttl=decrement,source=keep,sport=keep"


def read(text: str) -> Imported:
    """The routes as rules.

    Raises:
        ConfigError: with the problems of all lines.
    """
    found = Imported(settings={"ingress": "packet"})
    found.comments += [
        "smcroute routes all ports, keeps senders and takes one from the TTL; so do these rules.",
        "Name the ports, and omit source=keep and sport=keep, where that is not needed:",
        "copies then leave in batches.",
    ]
    for line, words in words_by_line(text):
        match words:
            case ["mroute", *rest]:
                _read_route(found, line, rest)
            case ["mgroup", *_]:
                pass  # rules join by themselves
            case ["phyint", name, *rest]:
                _read_interface(found, line, name, rest)
            case ["include", *patterns]:
                found.note(line, f"import {' '.join(patterns)} as well")
            case _:
                found.refuse(line, f"{words[0]!r} is not known; write mroute, mgroup or phyint")
    return found.finished()


def _read_route(found: Imported, line: int, words: list[str]) -> None:
    before, _, outputs = _partition(words, "to")
    values = dict(zip(before[::2], before[1::2], strict=False))
    group, interface = values.get("group"), values.get("from")
    if group is None or interface is None or not outputs:
        found.refuse(line, "write mroute from IFNAME [source ADDR] group GROUP to IFNAME")
        return
    source, slash, length = values.get("source", "").partition("/")
    if slash and length not in {"32", "128"}:
        found.note(line, f"accepted only the senders {values['source']}; this rule accepts any")
        source = ""
    sender = f"{source}@" if source else ""
    each = (f"{group}%{name}:{_ALL_PORTS},{_OPTIONS}" for name in outputs)
    found.add(line, f"{sender}{group}%{interface}:{_ALL_PORTS} to {' '.join(each)}")


def _partition(words: list[str], separator: str) -> tuple[list[str], str, list[str]]:
    at = words.index(separator) if separator in words else len(words)
    return words[:at], separator, words[at + 1 :]


def _read_interface(found: Imported, line: int, name: str, words: list[str]) -> None:
    if "mrdisc" in words:
        found.note(line, f"mcr announces no router on {name} (mrdisc)")
    if "ttl-threshold" in words:
        found.note(line, f"mcr has no TTL threshold on {name}; a rule decides for each output")

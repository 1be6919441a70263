"""The JSON5 of mcrd, an earlier multicast relay.

{ rules: [{ name, input: { interface, group, port }, outputs: [{ group, port, interface, ttl }] }],
pinning: { eth0: [0, 1] }, multicast_ttl: 1, ... }
"""

from typing import Any

from .imported import Imported
from .json5 import parse_json5

_PLACE = 1


def read(text: str) -> Imported:
    """The rules; everything else has no counterpart.

    Raises:
        ConfigError: with all problems.
    """
    found = Imported()
    try:
        value = parse_json5(text)
    except ValueError as error:
        found.refuse(_PLACE, str(error))
        return found.finished()
    if not isinstance(value, dict) or not isinstance(value.get("rules", []), list):
        found.refuse(_PLACE, "is no object with an array of rules")
        return found.finished()
    for name in value.keys() - {"rules", "multicast_ttl"}:
        found.comments.append(f"{name} has no counterpart")
    if "pinning" in value:
        found.comments.append("instead of pinning, give workers CPUs: daemon.workers, daemon.cpus")
    for number, rule in enumerate(value.get("rules", []), 1):
        _add(found, number, rule, value.get("multicast_ttl", 1))
    return found.finished()


def _add(found: Imported, number: int, rule: Any, ttl: object) -> None:  # noqa: ANN401 -- JSON
    try:
        source = rule["input"]
        if source.get("protocol") not in (None, "udp"):
            found.comments.append(f"rule {number}: mcr relays UDP, and no {source['protocol']}")
            return
        name = f",name={rule['name']}" if rule.get("name") else ""
        outputs = [_endpoint(each, f",ttl={each.get('ttl') or ttl}") for each in rule["outputs"]]
        text = f"{_endpoint(source, name)} to {' '.join(outputs)}"
    except (KeyError, TypeError, AttributeError):
        found.refuse(_PLACE, f"rule {number} has no input with interface, group and port, or none")
        return
    found.add(_PLACE, text)


def _endpoint(members: dict[str, Any], options: str) -> str:
    return f"{members['group']}%{members['interface']}:{members['port']}{options}"

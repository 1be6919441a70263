"""The keys of a configuration file: what each means and accepts, in words and as JSON Schema.

Owns the names of all keys. The values of rules are checked where rules are made.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_args

from ..choices import Egress, Hosts, IngressChoice, LogFormat, Offload
from ..protocol.log_spec import LogSpec
from ..relay.settings import WORKERS_LIMIT
from ..rules import fields, rates, shaping
from ..rules.expectation import Expectation
from ..rules.fields import Invalid, Join
from ..rules.redundancy import Late
from ..rules.shaping import PRIORITY_LIMIT, WEIGHT_LIMIT
from ..similar_names import suggestion

Schema = Mapping[str, Any]
_INTEGER, _TEXT, _SWITCH = {"type": "integer"}, {"type": "string"}, {"type": "boolean"}
_PORT: Schema = {"type": ["integer", "string"]}
_ABSOLUTE: Schema = {"type": "string", "pattern": "^/"}


class Key(NamedTuple):
    """A key of a table."""

    meaning: str
    schema: Schema
    read: Callable[[object], object] | None = None
    """Returns the value, or raises `Invalid`; None where the value is checked elsewhere."""


def _choice(choices: object) -> tuple[Schema, Callable[[object], object]]:
    """The schema and the reader of a value that is one of several words."""
    words = [word for each in get_args(choices) for word in (get_args(each) or (each,))]

    def read(value: object) -> object:
        if value not in words:
            raise Invalid(f"must be {' or '.join(map(repr, words))}, not {value!r}")
        return value

    return {"enum": words}, read


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"must be true or false, not {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid(f"must be a string that is not empty, not {value!r}")
    return value


def _absolute(value: object) -> str:
    path = _text(value)
    if not path.startswith("/") or path.endswith("/"):
        raise Invalid(f"{path!r} must be the absolute path of a file, such as /run/mcr/mcr.sock")
    return path


def _expectation(value: object) -> str:
    return str(Expectation.parse(value))


def _log_level(value: object) -> str:
    text = _text(value)
    try:
        LogSpec.parse(text)
    except ValueError as error:
        raise Invalid(str(error)) from None
    return text


def _workers(value: object) -> int:
    return fields.integer(value, 1, WORKERS_LIMIT)


DAEMON: Mapping[str, Key] = {
    "socket": Key("Where clients reach the daemon.", _ABSOLUTE, _absolute),
    "workers": Key(
        "Number of workers; each uses one core.",
        {"type": "integer", "minimum": 1, "maximum": WORKERS_LIMIT},
        _workers,
    ),
    "cpus": Key("The CPU of each worker, such as 0,2-3.", _TEXT, _text),
    "user": Key("The user that all processes but the supervisor become.", _TEXT, _text),
    "observers": Key("The group whose members may observe and change nothing.", _TEXT, _text),
    "observers_socket": Key("Where observers reach the daemon.", _ABSOLUTE, _absolute),
    "state": Key("The file that keeps what is changed at run time.", _ABSOLUTE, _absolute),
    "ingress": Key("How to receive.", *_choice(IngressChoice)),
    "egress": Key("How to send.", *_choice(Egress)),
    "offload": Key("Whether the kernel relays rules.", *_choice(Offload)),
    "hosts": Key("Send to the first address of a host name, or to all.", *_choice(Hosts)),
    "accept_bad_checksums": Key(
        "Also relay datagrams with a wrong UDP checksum.", _SWITCH, _switch
    ),
    "flows": Key("Count who sends to each rule.", _SWITCH, _switch),
    "latency": Key("Measure how long the datagrams of each rule take.", _SWITCH, _switch),
    "expect": Key("What rules expect that say nothing, such as 2s.", _TEXT, _expectation),
    "log_level": Key(
        "Log messages of this level and above, such as info,rules=debug.", _TEXT, _log_level
    ),
    "log_format": Key("How to write the log.", *_choice(LogFormat)),
    "log_stats": Key("Log the traffic of each second.", _SWITCH, _switch),
}
"""The options of `mcr serve`, which win over the file."""

INPUT: Mapping[str, Key] = {
    "address": Key("A group, a block of groups, or an address of this host.", _TEXT),
    "port": Key('1 to 65535, or a range such as "5000-5099".', _PORT),
    "interface": Key("Where the datagrams arrive.", _TEXT),
    "sources": Key("The accepted senders.", {"type": "array", "items": _TEXT}),
    "vlan": Key("The VLAN id of accepted frames.", {"type": ["integer", "string"]}),
    "join": Key("Whether to join each group of a block.", {"enum": list(get_args(Join))}),
    "seq": Key("How the datagrams are numbered.", _TEXT),
}
OUTPUT: Mapping[str, Key] = {
    "address": Key("A group, a block of groups, a host's address, or a host name.", _TEXT),
    "port": Key("1 to 65535, or as many as the input has.", _PORT),
    "interface": Key("Where the copies leave.", _TEXT),
    "ttl": Key('1 to 255, "keep" or "decrement".', {"type": ["integer", "string"]}),
    "dscp": Key('0 to 63, or "keep".', {"type": ["integer", "string"]}),
    "source": Key('An address of this host, or "keep".', _TEXT),
    "source_port": Key('1 to 65535, or "keep".', {"type": ["integer", "string"]}),
    "loop": Key("Whether this host hears the copies too.", _SWITCH),
    "priority": Key("SO_PRIORITY, 0 to 6.", {"type": ["integer", "string"]}),
    "rate": Key("The most to send a second, such as 50mbit or 20kpps.", _TEXT),
    "burst": Key("The most to send at once: bytes or datagrams.", {"type": ["integer", "string"]}),
    "queue": Key("How long what exceeds the rate may wait, such as 20ms.", _TEXT),
    "pace": Key("Whether copies leave one by one, evenly spaced at the rate.", _SWITCH),
}

INPUT_DEFAULTS: Mapping[str, Key] = {
    "interface": Key("The interface of inputs that name none.", _TEXT, fields.interface),
    "vlan": Key("Their VLAN id.", {"type": "integer", "minimum": 1, "maximum": 4094}, fields.vlan),
}
OUTPUT_DEFAULTS: Mapping[str, Key] = {
    "interface": Key(
        "The interface of outputs to groups that name none; copies to hosts are routed.",
        _TEXT,
        fields.interface,
    ),
    "ttl": Key("Their TTL.", {"type": ["integer", "string"]}, fields.output_ttl),
    "dscp": Key("Their DSCP.", {"type": ["integer", "string"]}, fields.output_dscp),
    "loop": Key("Whether this host hears the copies too.", _SWITCH, fields.loop),
    "priority": Key(
        "Their SO_PRIORITY.", {"type": "integer", "minimum": 0, "maximum": 6}, fields.priority
    ),
}
DEFAULTS: Mapping[str, Key] = {
    "enabled": Key("Whether rules are enabled.", _SWITCH, _switch),
    "expect": Key("What rules expect, such as 2s+1000pps.", _TEXT, Expectation.parse),
    "input": Key("What inputs leave out.", {}),
    "output": Key("What outputs leave out.", {}),
}
RULE: Mapping[str, Key] = {
    "rule": Key("The rule as text, or as a table with input and outputs.", {}),
    "enabled": Key("Whether the rule relays.", _SWITCH),
    "name": Key("Its name in commands and reports.", _TEXT),
    "expect": Key("What an alarm follows from.", _TEXT),
    "class": Key("The class of its copies, one of the table classes.", _TEXT),
    "input": Key("Where its datagrams come from, as text or as a table.", {}),
    "inputs": Key("Several inputs that are merged, each as text or as a table.", {}),
    "merge": Key("By what datagrams of several inputs are known to be the same.", _TEXT),
    "late": Key("What becomes of datagrams behind later ones.", {"enum": list(get_args(Late))}),
    "reorder": Key("How long what is ahead of a gap is held, such as 5ms.", _TEXT),
    "after": Key("The silence after which a failover sends another input, such as 200ms.", _TEXT),
    "outputs": Key("Where its copies go, each as text or as a table.", {}),
    "for": Key("Values of {names} in the rule, which is repeated for each.", {}),
}
CLASS: Mapping[str, Key] = {
    "priority": Key(
        "A class of a higher one is served first; 3 by default.",
        {"type": "integer", "minimum": 0, "maximum": PRIORITY_LIMIT},
        shaping.priority,
    ),
    "weight": Key(
        "Its share among the classes of its priority; 1 by default.",
        {"type": "integer", "minimum": 1, "maximum": WEIGHT_LIMIT},
        shaping.weight,
    ),
}
INTERFACE: Mapping[str, Key] = {
    "rate": Key("The most to send a second, such as 100mbit or 20kpps.", _TEXT, rates.rate),
    "burst": Key(
        "The most that a class sends at once: bytes or datagrams.",
        {"type": "integer", "minimum": 1},
        rates.burst,
    ),
}
FILE: Mapping[str, Key] = {
    "include": Key("Patterns of further files, below the directory of this one.", {}),
    "daemon": Key("The options of mcr serve; those of its command line win.", {}),
    "defaults": Key("What the rules of this file leave out.", {}),
    "classes": Key("Classes of traffic by name.", {}),
    "interfaces": Key("Interfaces whose outputs share a rate, by name.", {}),
    "rules": Key("The rules, each as text or as a table.", {}),
}
MAIN_ONLY = ("include", "daemon", "classes", "interfaces")
"""Keys that an included file cannot have."""


def unknown(name: str, known: Iterable[str]) -> str:
    """The sentence about an unknown key, with the most similar known one."""
    names = list(known)
    hint = suggestion(name, names) or f"the keys are {', '.join(names)}"
    return f"is not known; {hint}"

"""The snapshot that outlives the control process: the rules and a few numbers, as JSON lines.

Owns the format, also that of the state file. The supervisor keeps a snapshot without reading it.

    {"mcr":"rules","version":1,"revision":3,"sequence":1000,"log_levels":{...},"hosts":[...],"count":2}
    {"rule":"239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001","enabled":true,"resolved":{...}}
    {"rule":"239.1.1.2%eth0:5001 to 239.2.0.2%eth1:6001","enabled":false,"origin":"file"}
    {"rule":"239.1.1.3%eth0:5001 to 239.2.0.3%eth1:6001","enabled":false,"id":"5f0c1d2e3a4b"}

`id` is that of a rule that was edited. `resolved` is the rule as workers have it: the
specifications of its outputs, and under `beside` what these do not say. The next control process of
the same daemon uses it unchanged; another start of the daemon ignores it, since the host may have
changed.
"""

import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from ....choices import FACILITIES, Level
from ....errors import McrError, RuleError
from ....json_codec import adapter_of
from ....protocol.results import LogLevels, RuleOrigin
from ....rules import Rule
from ....rules.hostnames import HostName, ResolvedHosts
from ....rules.objects import text_or_object
from ....rules.redundancy import MERGE_OPTIONS
from ....rules.shaping import NO_SHAPING, Shaping, shaping_object
from ....rules.spec import ResolvedInput, ResolvedRule, beside_specs
from .. import limits
from ..api.jsonrpc import encode
from ..api.params import ShapingTables
from ..api.pydantic_problems import problems_of
from .entries import EnabledRule, read_entry
from .shaping_change import shaping_from

# Built at their first use, since most daemons read no snapshot.
_UNBUILT = ConfigDict(defer_build=True)
_STRICT = ConfigDict(extra="forbid", strict=True, defer_build=True)
_RULE_ID = TypeAdapter(Annotated[str, Field(pattern="^[0-9a-f]{12}$")], config=_UNBUILT)
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class _Levels(BaseModel):
    model_config = _STRICT

    everything: Level = "info"
    facilities: dict[str, Level] = {}
    """Those that this version does not have, as an earlier one did, are ignored."""


class _Host(BaseModel):
    model_config = _STRICT

    host: str
    version: Literal[0, 4, 6]
    addresses: list[str]


class _Head(BaseModel):
    model_config = _STRICT

    mcr: Literal["rules"]
    version: Literal[1]
    revision: Annotated[int, Field(ge=0, le=2**63 - 1)]
    sequence: Annotated[int, Field(ge=0, le=2**63 - 1)]
    log_levels: _Levels
    hosts: list[_Host]
    count: Annotated[int, Field(ge=0)]
    shaping: ShapingTables | None = None
    file_shaping: ShapingTables | None = None


class _KeptRule(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    input: dict[str, Any]
    outputs: list[dict[str, Any]]
    id: str
    numbers: tuple[int, ...] | None = None
    beside: dict[int, dict[str, Any]] = {}
    others: tuple[dict[str, Any], ...] = ()
    merge: str | None = None
    late: str | None = None
    after: str | None = None
    reorder: str | None = None
    traffic_class: str | None = None


@dataclass(frozen=True, slots=True)
class RuleSnapshot:
    """The contents of a snapshot."""

    revision: int
    sequence: int
    """The highest number that an event may have had."""
    log_levels: LogLevels
    answers: ResolvedHosts
    entries: tuple[EnabledRule, ...]
    shaping: Shaping = NO_SHAPING
    """The classes, and the rates of interfaces."""
    file_shaping: Shaping = NO_SHAPING
    """Those that the configuration wants."""


class UnreadableError(McrError):
    """A snapshot or state file was not written by this program."""


def line_of(entry: EnabledRule, specs: Sequence[bytes] = ()) -> bytes:
    """The line of a rule.

    Args:
        entry: the rule.
        specs: if it is resolved, the `output_spec` of each output.
    """
    enabled, rule_id = b"true" if entry.enabled else b"false", encode(entry.rule.id)
    line = b'{"rule":%s,"enabled":%s' % (encode(text_or_object(entry.rule)), enabled)
    if entry.rule.is_edited:
        line += b',"id":%s' % rule_id
    if entry.origin != "client":
        line += b',"origin":%s' % encode(entry.origin)
    if entry.resolved is None:
        return line + b"}\n"
    taken = adapter_of(ResolvedInput).dump_json(entry.resolved.input, exclude_defaults=True)
    unusual = _unusual(entry.resolved)
    rest = b",%s" % encode(unusual)[1:-1] if unusual else b""
    resolved = (taken, b",".join(specs), rule_id, rest)
    return line + b',"resolved":{"input":%s,"outputs":[%s],"id":%s%s}}\n' % resolved


def _unusual(rule: ResolvedRule) -> dict[str, Any]:
    """The members of a resolved rule beside its id, its input and its outputs, if it has any."""
    members = {
        "numbers": rule.numbers,
        "others": [
            adapter_of(ResolvedInput).dump_python(each, mode="json", exclude_defaults=True)
            for each in rule.others
        ],
        **{name: getattr(rule, name) for name in MERGE_OPTIONS},
        "traffic_class": rule.traffic_class,
        "beside": beside_specs(rule.outputs),
    }
    return {name: value for name, value in members.items() if value}


def write(
    revision: int,
    sequence: int,
    log_levels: LogLevels,
    answers: ResolvedHosts,
    lines: Iterable[bytes],
    *,
    shaping: Shaping | None = None,
    file_shaping: Shaping | None = None,
) -> int:
    """A sealed memfd (memfd_create(2), F_ADD_SEALS) with a snapshot; the caller closes it.

    Raises:
        McrError: it exceeds the limit, or the kernel refuses the memory.
    """
    rules = list(lines)
    head: dict[str, Any] = {
        "mcr": "rules",
        "version": 1,
        "revision": revision,
        "sequence": sequence,
        "log_levels": {
            "everything": log_levels.level,
            "facilities": {name: own for name, own in log_levels.facilities.items() if own},
        },
        "hosts": [
            {"host": name.host, "version": name.version, "addresses": [str(each) for each in known]}
            for name, known in answers.items()
        ],
        "count": len(rules),
    }
    for name, own in {"shaping": shaping, "file_shaping": file_shaping}.items():
        if own is not None and own != NO_SHAPING:
            head[name] = shaping_object(own)
    whole = b"".join((encode(head), b"\n", *rules))
    if len(whole) > limits.KEPT_BYTES:
        raise McrError(f"the rules need {len(whole)} bytes, more than {limits.KEPT_BYTES}")
    return _sealed(whole)


def _sealed(whole: bytes) -> int:
    try:
        memory = os.memfd_create("mcr-rules", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise McrError(f"no memory to keep the rules in: {error.strerror}") from None
    try:
        rest = memoryview(whole)
        while rest:
            rest = rest[os.write(memory, rest) :]
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(memory)
        raise McrError(f"no memory to keep the rules in: {error.strerror}") from None
    return memory


def read(whole: bytes, *, in_use: bool) -> RuleSnapshot:
    """Read a whole snapshot.

    Args:
        whole: the snapshot.
        in_use: whether workers have these rules; otherwise `resolved` of each rule is ignored.

    Raises:
        UnreadableError: with the invalid line and field.
    """
    first, _, rest = whole.partition(b"\n")
    head = _head(first)
    lines = rest.splitlines()
    if len(lines) != head.count:
        message = f"line 1, count: says {head.count} rules, but {len(lines)} follow"
        raise UnreadableError(f"{message}; count them, and write their number there")
    answers = {
        HostName(each.host, each.version): tuple(ip_address(text) for text in each.addresses)
        for each in head.hosts
    }
    entries = tuple(_entry(number, line, in_use) for number, line in enumerate(lines, 2))
    own: dict[str, str | None] = {name: head.log_levels.facilities.get(name) for name in FACILITIES}
    levels = LogLevels(head.log_levels.everything, own)
    shaping, file_shaping = (_shaping(each) for each in (head.shaping, head.file_shaping))
    return RuleSnapshot(
        head.revision, head.sequence, levels, answers, entries, shaping, file_shaping
    )


def read_all(descriptor: int, limit_bytes: int = limits.KEPT_BYTES) -> bytes:
    """Read and close a file that the supervisor passed.

    Raises:
        UnreadableError: the file is too long or cannot be read.
    """
    try:
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            whole = file.read(limit_bytes + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
    if len(whole) > limit_bytes:
        raise UnreadableError(f"is longer than {limit_bytes} bytes")
    return whole


def _head(line: bytes) -> _Head:
    try:
        head = _Head.model_validate_json(line)
        for each in head.hosts:
            for text in each.addresses:
                ip_address(text)
    except ValidationError as error:
        raise UnreadableError(f"line 1, {problems_of(error, _Head)[0]}") from None
    except ValueError as error:
        raise UnreadableError(f"line 1, hosts: {error}") from None
    return head


def _shaping(tables: ShapingTables | None) -> Shaping:
    try:
        return NO_SHAPING if tables is None else shaping_from(tables, NO_SHAPING)
    except RuleError as error:
        raise UnreadableError(f"line 1, shaping: {error.problems[0]}") from None


def _entry(number: int, line: bytes, in_use: bool) -> EnabledRule:
    try:
        value = from_json(line, allow_inf_nan=False)
        own = value if isinstance(value, dict) else {}
        resolved, origin = own.pop("resolved", None), own.pop("origin", "client")
        rule_id = own.pop("id", None)
        if origin not in get_args(RuleOrigin):
            raise RuleError([("origin", f"must be one of {', '.join(get_args(RuleOrigin))}")])
        entry = read_entry(value, enabled=True)._replace(origin=origin)
        if rule_id is not None:
            entry = entry._replace(rule=entry.rule.with_id(_RULE_ID.validate_python(rule_id)))
        if resolved is None or not in_use:
            return entry
        return entry._replace(resolved=_resolved(entry.rule, resolved))
    except RuleError as error:
        raise UnreadableError(f"line {number}, {error.problems[0]}") from None
    except ValidationError as error:
        raise UnreadableError(f"line {number}, resolved: {error.errors()[0]['msg']}") from None
    except ValueError as error:
        raise UnreadableError(f"line {number}: is not valid JSON: {error}") from None


def _resolved(rule: Rule, value: object) -> ResolvedRule:
    kept = _KeptRule.model_validate(value)
    outputs = [
        {"device": spec.get("interface", ""), **spec, **kept.beside.get(place, {})}
        for place, spec in enumerate(kept.outputs)
    ]
    resolved: ResolvedRule = adapter_of(ResolvedRule).validate_python(
        {**dict(kept), "outputs": outputs}
    )
    numbers = resolved.numbers or range(1, len(outputs) + 1)
    if (
        resolved.id != rule.id
        or len(numbers) != len(outputs)
        or set(numbers) != set(range(1, len(rule.outputs) + 1))
    ):
        raise RuleError([("resolved", "belongs to another rule")])
    return resolved

"""The parameters of every method, and rules as objects.

Owns the shape of requests; `mcr.rules` checks the values of a rule's fields.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SkipValidation,
    Tag,
)

from ....choices import Facility, Level
from ....protocol.constants import EVENT_KINDS, EXPLAINED_DATAGRAMS, EventKind
from ....rules.fields import Join
from ....rules.redundancy import Late
from ....taps.filter import (
    FRAME_BYTES,
    LEAST_RING_BYTES,
    MOST_RING_BYTES,
    RING_BYTES,
    TAKEN,
    Taken,
)
from .. import limits


class Params(BaseModel):
    """Parameters are passed by name; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class InputObject(Params):
    """A rule's input, with the fields of `mcr.Input`."""

    address: str
    """A group, a block of groups, an address of this host, or a broadcast address."""
    port: int | str
    """1 to 65535, or a range such as "5000-5099"."""
    interface: str | None = None
    sources: list[str] = []
    vlan: int | None = None
    join: Join | None = None
    seq: str | None = None
    """How datagrams are numbered, as in rule text."""


class OutputObject(Params):
    """One output of a rule, with the fields of `mcr.Output`."""

    address: str
    """A group, a block of groups, a host's or a broadcast address, or a host name."""
    port: int | str
    """1 to 65535, or a range such as "5000-5099"."""
    interface: str | None = None
    ttl: int | str | None = None
    """1 to 255, "keep" or "decrement"; null is 1 for groups and 64 for hosts."""
    dscp: int | str = 0
    """0 to 63, or "keep"."""
    source: str | None = None
    """An address of this host, or "keep"."""
    source_port: int | str | None = None
    """1 to 65535, or "keep"."""
    loop: bool | None = None
    """Whether this host hears the copies to a group; null: yes, except on the ingress `udp` where
    they go to the rule's own group and port."""
    priority: int | None = None
    """SO_PRIORITY, 0 to 6."""
    rate: str | None = None
    """The most to send a second, such as "50mbit" or "20kpps"; null: any rate."""
    burst: int | None = None
    """Bytes, or datagrams, to send at once at a rate."""
    queue: str | None = None
    """How long what exceeds the rate may wait, such as "20ms"; null drops it at once."""
    pace: bool | None = None
    """Whether copies leave one by one, evenly spaced at the rate."""


class RuleObject(Params):
    """A rule as an object, which can name every interface; rule text cannot."""

    name: str | None = None
    expect: str | None = None
    """What an alarm follows from, such as "2s+1000pps+1source", or "none"."""
    traffic_class: str | None = Field(default=None, alias="class")
    """The class of its copies; null is "default"."""
    merge: str | None = None
    """By what datagrams of several inputs are known to be the same, as in rule text."""
    late: Late | None = None
    """Whether to send or drop what no input delivered before later ones; null sends."""
    after: str | None = None
    """The silence after which a failover sends another input, such as "200ms"."""
    reorder: str | None = None
    """How long what is ahead of a gap is held, so that it is sent in order, such as "5ms"."""
    input: InputObject | None = None
    inputs: list[InputObject] | None = None
    """Several inputs that are merged, in place of `input`."""
    outputs: list[OutputObject]


def _rule_kind(value: object) -> str:
    return "text" if isinstance(value, str) else "object"


def _entry_kind(value: object) -> str:
    if isinstance(value, dict) and "rule" in value:
        return "entry"
    return _rule_kind(value)


AnyRule = Annotated[
    Annotated[str, Tag("text")] | Annotated[RuleObject, Tag("object")], Discriminator(_rule_kind)
]


class RuleEntry(Params):
    """A rule, and whether it is enabled."""

    rule: AnyRule
    enabled: bool | None = None
    """By default, the value of the request for all its rules."""


AnyEntry = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[RuleObject, Tag("object")]
    | Annotated[RuleEntry, Tag("entry")],
    Discriminator(_entry_kind),
]

Revision = Annotated[int, Field(ge=0, le=2**63 - 1)]
RuleRef = Annotated[str, Field(min_length=1, max_length=256)]
RuleRefs = Annotated[list[RuleRef], Field(max_length=limits.REQUEST_RULES, fail_fast=True)]
# The rules themselves are parsed one by one, in the thread that checks them.
Entries = Annotated[list[SkipValidation[AnyEntry]], Field(max_length=limits.REQUEST_RULES)]


class NoParams(Params):
    """No parameters."""


class HelloParams(Params):
    """The version of the protocol that the client uses."""

    protocol: int
    client: Annotated[str, Field(max_length=256)] | None = None
    """The client's name, for the log."""


class SelectionParams(Params):
    """Rules, by ids or names, or by patterns for these and the text, as "A0*"; null selects all."""

    rules: RuleRefs | None = None


class FlowsParams(SelectionParams):
    """The flows of rules, with a limit."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """The largest number of flows in the answer."""


class DatagramObject(Params):
    """A datagram that arrives on an interface."""

    group: Annotated[str, Field(max_length=64)]
    port: int
    interface: Annotated[str, Field(max_length=128)]
    source: Annotated[str, Field(max_length=64)] | None = None
    """The sender; without it no list of sources contains it."""
    source_port: int = 0
    ttl: int = 1
    dscp: int = 0
    vlan: int = 0
    """0 for an untagged frame."""
    size_bytes: int = 0
    """The size of the UDP payload, up to 65527."""


class ExplainParams(Params):
    """The datagrams to explain."""

    datagrams: Annotated[
        list[DatagramObject],
        Field(min_length=1, max_length=EXPLAINED_DATAGRAMS, fail_fast=True),
    ]


class TapParams(Params):
    """What to record of datagrams."""

    rule: RuleRef | None = None
    """The id or name of the only rule; null takes all."""
    output: Annotated[int, Field(ge=1, le=65_534)] | None = None
    """The only output of the rule, from 1, of which copies alone are taken."""
    reason: Annotated[str, Field(max_length=64)] | None = None
    """The only reason of drops, which alone are taken."""
    take: Annotated[list[Taken], Field(min_length=1, max_length=len(TAKEN))] | None = None
    """What is taken; null takes all that the others permit."""
    sample: Annotated[int, Field(ge=1, le=2**32 - 1)] = 1
    """Every n-th datagram is taken, with its copies."""
    frame_bytes: Annotated[int, Field(ge=1, le=FRAME_BYTES)] = FRAME_BYTES
    """The most bytes kept of a frame."""
    ring_bytes: Annotated[int, Field(ge=LEAST_RING_BYTES, le=MOST_RING_BYTES)] = RING_BYTES
    """The size of each worker's ring."""


class RuleParams(Params):
    """One rule, by its id or name."""

    rule: RuleRef


class ChangeParams(Params):
    """The parameters of every change of the rules."""

    expected_revision: Revision | None = None
    """Refuse the change unless the rules are at this revision."""
    dry_run: bool = False
    """Check against this host and the other rules, and change nothing."""


class AddParams(ChangeParams):
    """Rules to add."""

    rules: Entries
    enabled: bool = True


class ReplaceParams(ChangeParams):
    """The rules that replace all others, in this order."""

    rules: Entries


class PruneParams(Params):
    """Whether what was changed at run time is forgotten."""

    prune: bool = False
    """Remove rules that clients have added, and undo their enabling and disabling."""


class ClassObject(Params):
    """A class of traffic; what is missing stays, and has its default in a new class."""

    priority: int | None = None
    """0 to 7; a higher one is served first. By default 3."""
    weight: int | None = None
    """1 to 1000: its share among the classes of its priority. By default 1."""


class RateObject(Params):
    """The most that all outputs on an interface send together."""

    rate: str
    """Bits of payload or datagrams a second, such as "100mbit" or "20kpps"."""
    burst: int | None = None
    """Bytes or datagrams that a class sends at once; null is what the rate gives in 10 ms."""


_Name = Annotated[str, Field(max_length=256)]


class ShapingTables(Params):
    """Classes of traffic by name, and rates of interfaces by interface; null removes one."""

    classes: Annotated[dict[_Name, ClassObject | None], Field(max_length=1024)] = {}
    interfaces: Annotated[dict[_Name, RateObject | None], Field(max_length=2048)] = {}


class ShapingParams(ChangeParams, ShapingTables):
    """The classes and rates of interfaces to change; the others stay."""


class ApplyParams(ChangeParams, PruneParams):
    """The rules of a configuration, in their order."""

    rules: Entries
    shaping: ShapingTables | None = None
    """All of its classes and rates of interfaces; null leaves those that there are."""


class ReloadParams(PruneParams):
    """The daemon reads its configuration again."""


class RuleOptions(Params):
    """Options of a rule; those that are missing stay, and null takes one away."""

    name: str | None = None
    expect: str | None = None
    """As in `RuleObject`."""
    traffic_class: str | None = Field(default=None, alias="class")
    """As in `RuleObject`."""


class OutputOptions(Params):
    """Options of an output, as in `OutputObject`; those missing stay, and null takes one back."""

    ttl: int | str | None = None
    dscp: int | str | None = None
    source: str | None = None
    source_port: int | str | None = None
    loop: bool | None = None
    priority: int | None = None
    rate: str | None = None
    burst: int | None = None
    queue: str | None = None
    pace: bool | None = None


OutputRef = (
    Annotated[int, Field(ge=1)]
    | Annotated[str, Field(min_length=1, max_length=limits.OUTPUT_CHARS)]
)
_MOST = Field(max_length=limits.EDIT_OUTPUTS, fail_fast=True)


class OutputEdit(Params):
    """Other options for one output."""

    output: OutputRef
    """Its number, from 1 as listed before the edit, or its text."""
    options: OutputOptions


class EditParams(ChangeParams):
    """The changes of one rule; what they do not name stays."""

    rule: RuleRef
    options: RuleOptions = RuleOptions()
    set_outputs: Annotated[list[OutputEdit], _MOST] = []
    add_outputs: Annotated[list[str | OutputObject], _MOST] = []
    """Outputs as rule text, or as objects."""
    remove_outputs: Annotated[list[OutputRef], _MOST] = []


class RefsParams(ChangeParams):
    """Rules to change, by their ids or names."""

    rules: RuleRefs


class LogsParams(Params):
    """A level for everything, or for one facility; null lets a facility follow the others."""

    level: Level | None
    facility: Facility | None = None


class SubscribeParams(Params):
    """The kinds of events to send; null selects all."""

    kinds: Annotated[list[EventKind], Field(max_length=len(EVENT_KINDS))] | None = None
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """First replay the available events after this sequence number; null replays none."""


class Request(BaseModel):
    """One request (JSON-RPC 2.0, section 4)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, Any] = {}
    id: Annotated[str, Field(max_length=limits.ID_CHARS)] | int | None = None
    """Without it the request is a notification, and is not answered."""

"""Messages between control and a worker, as JSON.

Owns the shapes: what is sent is made here, what comes is checked here, since a worker in somebody
else's hands may say anything. Knows no sockets.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ....rules.spec import ResolvedInput, ResolvedOutput, ResolvedRule
from .. import limits
from ..api.jsonrpc import encode

PROTOCOL = 1
"""The version of the messages; a worker that speaks another one is not used."""

Text = Annotated[str, Field(max_length=4096)]


class Failure(TypedDict):
    """Why a worker refuses."""

    kind: Literal["interface", "rights", "limit", "rule", "engine"]
    rule: Text | None
    message: Text


class RuleNews(TypedDict):
    """What keeps a rule's input or outputs from working now."""

    id: Text
    trouble: Text | None
    parked: list[Text | None]


class WorkerHello(TypedDict):
    """What a worker says of itself."""

    protocol: int
    number: int
    pid: int
    ingress: Text
    revision: int
    rules: list[Text]


class WorkerMessage(TypedDict, total=False):
    """An answer (with an id), or an event."""

    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]

    id: int
    ok: dict[str, Any]
    error: Failure | Text
    """Why it refuses; or in an event, what the engine ended with."""
    event: Literal["rules", "link", "log", "engine"]
    rules: list[RuleNews]
    name: Text
    index: int
    change: Text
    detail: Text
    level: Literal["debug", "info", "warning", "error"]
    facility: Literal["worker", "interface", "socket"]
    text: Text


_ANSWER = TypeAdapter(WorkerMessage)
_HELLO = TypeAdapter(WorkerHello)


def read_message(body: bytes) -> WorkerMessage:
    """A message of a worker.

    Raises:
        ValueError: it is none, or holds more than can be read without holding up clients.
    """
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > limits.WORKER_VALUES:
        raise ValueError(f"a message with {values} commas and brackets")
    try:
        return _ANSWER.validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}") from None


def read_hello(ok: dict[str, Any]) -> WorkerHello:
    """What a worker says of itself.

    Raises:
        ValueError: it is something else.
    """
    return _HELLO.validate_python(ok, strict=True)


def spec_tail(rule: ResolvedRule) -> bytes:
    """What a worker is told of a rule beside its id and whether it is enabled; kept as it is."""
    spec = {"input": _input(rule.input), "outputs": [_output(each) for each in rule.outputs]}
    return encode(spec)[1:]


def prepare_body(
    revision: int, *, whole: bool, remove: Sequence[str], add: Iterable[tuple[str, bool, bytes]]
) -> bytes:
    """The members of a `prepare`; each rule as id, whether it is enabled, and its `spec_tail`."""
    specs = (
        b'{"id":%s,"enabled":%s,%s' % (encode(rule_id), b"true" if enabled else b"false", tail)
        for rule_id, enabled, tail in add
    )
    head = encode({"do": "prepare", "revision": revision, "whole": whole, "remove": list(remove)})
    return head[1:-1] + b',"add":[' + b",".join(specs) + b"]}"


def _input(taken: ResolvedInput) -> dict[str, Any]:
    return {
        "group": str(taken.group),
        "group_bits": taken.group_bits,
        "port": taken.port,
        "last_port": taken.last_port,
        "interface": taken.interface,
        "ifindex": taken.ifindex,
        "sources": [str(source) for source in taken.sources],
        "vlan": taken.vlan,
        "join": taken.join,
        "broadcast": taken.broadcast,
        "everywhere": taken.everywhere,
    }


def _output(output: ResolvedOutput) -> dict[str, Any]:
    return {
        "address": str(output.address),
        "address_bits": output.address_bits,
        "port": output.port,
        "last_port": output.last_port,
        "interface": output.interface,
        "ifindex": output.ifindex,
        "ttl": output.ttl,
        "dscp": output.dscp,
        "source": None if output.source is None else str(output.source),
        "source_port": output.source_port,
        "loop": output.loop,
        "priority": output.priority,
    }

"""Messages between control and a worker, as JSON.

Owns the shapes: what is sent is made here, what comes is checked here, since a worker in somebody
else's hands may say anything. Knows no sockets.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ....protocol.constants import Level
from ....rules.spec import rule_spec
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
    level: Level
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


def prepare_body(
    revision: int, *, whole: bool, remove: Sequence[str], add: Iterable[tuple[str, bool, bytes]]
) -> bytes:
    """The members of a `prepare`; each rule as id, whether enabled, and its `spec_members`."""
    specs = (rule_spec(rule_id, members, enabled=enabled) for rule_id, enabled, members in add)
    head = encode({"do": "prepare", "revision": revision, "whole": whole, "remove": list(remove)})
    return head[1:-1] + b',"add":[' + b",".join(specs) + b"]}"

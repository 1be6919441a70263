"""Messages between control and a worker, as JSON.

Creates the requests and validates what workers send: a compromised worker may send anything. Does
no input or output.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NotRequired, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ....choices import Level
from ....rules.shaping import Shaping, shaping_spec
from ....rules.spec import rule_spec
from .. import limits
from ..api.jsonrpc import encode

PROTOCOL = 4
"""The version of the messages; a worker with another version is restarted."""

Text = Annotated[str, Field(max_length=4096)]


class Failure(TypedDict):
    """Why a worker refused a request.

    `capability` would help, and `alternative` does without it; the message has neither.
    """

    kind: Literal["interface", "rights", "limit", "rule", "engine"]
    rule: Text | None
    message: Text
    capability: NotRequired[Text]
    alternative: NotRequired[Text]


class InputTroubleMessage(TypedDict):
    """Why the input of a rule cannot receive."""

    state: Literal["unresolved", "waiting"]
    reason: Text


class RuleTrouble(TypedDict):
    """The current troubles of a rule: why its input waits, and why each output is parked.

    `engine_sentence` is why the engine relays it and not the kernel, if there is something to say.
    """

    id: Text
    trouble: InputTroubleMessage | None
    parked: list[Text | None]
    engine_sentence: NotRequired[Text | None]


WorkerFacility = Literal["worker", "ingress", "egress", "interfaces"]
WORKER_FACILITIES: tuple[WorkerFacility, ...] = get_args(WorkerFacility)
"""The facilities of the records that workers send."""


class WorkerHello(TypedDict):
    """A worker's answer to `hello`: its identity and the rules that it has."""

    protocol: int
    number: int
    pid: int
    ingress: Text
    engine: Text | None
    revision: int
    rules: list[Text]


class WorkerMessage(TypedDict, total=False):
    """An answer (with an id), or an event."""

    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]

    id: int
    ok: dict[str, Any]
    error: Failure | Text
    """In an answer, why the worker refused; in an event, why the engine ended."""
    event: Literal["rules", "link", "log", "engine"]
    rules: list[RuleTrouble]
    name: Text
    index: int
    change: Text
    detail: Text
    level: Level
    facility: WorkerFacility
    text: Text


_ANSWER = TypeAdapter(WorkerMessage)
_HELLO = TypeAdapter(WorkerHello)


def read_message(body: bytes) -> WorkerMessage:
    """Parse a message from a worker.

    Raises:
        ValueError: the message is invalid, or holds so many values that parsing it would delay
            clients.
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
    """Parse the answer to `hello`.

    Raises:
        ValueError: the answer is invalid.
    """
    return _HELLO.validate_python(ok, strict=True)


def prepare_body(
    revision: int,
    *,
    whole: bool,
    remove: Sequence[str],
    add: Iterable[tuple[str, bool, bytes]],
    edit: Sequence[bytes] = (),
    shaping: Shaping | None = None,
) -> bytes:
    """Encode a `prepare` request as JSON, without the opening brace.

    Args:
        revision: the revision that the rules get with this change.
        whole: whether `add` replaces all rules.
        remove: the ids of the removed rules.
        add: the added rules, each as its id, whether it is enabled, and its `spec_members`.
        edit: the `edit_spec` of each edited rule.
        shaping: other classes and rates of interfaces; None leaves them.
    """
    specs = (rule_spec(rule_id, members, enabled=enabled) for rule_id, enabled, members in add)
    head = encode({"do": "prepare", "revision": revision, "whole": whole, "remove": list(remove)})
    edits = b',"edit":[%s]' % b",".join(edit) if edit else b""
    shapes = b"" if shaping is None else b',"shaping":%s' % shaping_spec(shaping)
    return b'%s,"add":[%s]%s%s}' % (head[1:-1], b",".join(specs), edits, shapes)

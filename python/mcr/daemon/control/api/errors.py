"""Errors of the protocol, and how the package's own errors map to them.

Owns the way from exceptions to the errors of the protocol. Knows no connection.
"""

from collections.abc import Iterable
from typing import Any

from ....errors import (
    ConflictError,
    EngineError,
    InterfaceError,
    McrError,
    Problem,
    RightsError,
    RuleError,
)
from ....protocol.constants import ErrorCode
from .. import limits


class RpcError(Exception):
    """An error of JSON-RPC 2.0 (section 5.1): a code, one sentence, and what belongs to it."""

    def __init__(self, code: ErrorCode, message: str, data: dict[str, Any] | None = None) -> None:
        """Take the sentence as it is; only its length is bounded."""
        self.code = code
        self.message = cut(message)
        self.data = data
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        """The `error` member of an answer."""
        error: dict[str, Any] = {"code": int(self.code), "message": self.message}
        return error if self.data is None else error | {"data": self.data}


def with_problems(code: ErrorCode, noun: str, problems: Iterable[Problem]) -> RpcError:
    """A refusal that lists problems, as many as an answer holds; the first is the sentence."""
    found = list(problems)
    listed = [
        {"field": cut(field), "message": cut(message)}
        for field, message in found[: limits.PROBLEMS]
    ]
    message = str(found[0]) if len(found) == 1 else f"{found[0]} (and {len(found) - 1} more)"
    return RpcError(code, f"{noun}: {message}", {"problems": listed})


def rpc_error_from(error: McrError) -> RpcError:
    """The refusal that says what an error of the package says."""
    if isinstance(error, RuleError):
        return with_problems(ErrorCode.RULE_REFUSED, "the rules are refused", error.problems)
    if isinstance(error, ConflictError):
        data = {"expected": error.expected, "actual": error.actual}
        return RpcError(ErrorCode.REVISION_CONFLICT, str(error), data)
    if isinstance(error, InterfaceError):
        return RpcError(ErrorCode.INTERFACE, str(error))
    if isinstance(error, RightsError):
        return RpcError(ErrorCode.RIGHTS, str(error))
    if isinstance(error, EngineError):
        return RpcError(ErrorCode.WORKER_FAILED, str(error))
    return RpcError(ErrorCode.INTERNAL, str(error))


def cut(text: str) -> str:
    """A sentence, cut where it quotes more of a client than anybody reads."""
    if len(text) <= limits.MESSAGE_CHARS:
        return text
    return text[: limits.MESSAGE_CHARS - 3] + "..."

"""Errors of the protocol, and the mapping of the package's exceptions to them."""

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
    """An error of JSON-RPC 2.0 (section 5.1): a code, one sentence, and optional data."""

    def __init__(self, code: ErrorCode, message: str, data: dict[str, Any] | None = None) -> None:
        """Create the error; a sentence that is too long is truncated."""
        self.code = code
        self.message = cut(message)
        self.data = data
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        """The `error` member of an answer."""
        error: dict[str, Any] = {"code": int(self.code), "message": self.message}
        return error if self.data is None else error | {"data": self.data}


def with_problems(code: ErrorCode, noun: str, problems: Iterable[Problem]) -> RpcError:
    """Create an error that lists problems, up to a limit; its message names the first.

    Args:
        code: the code of the error.
        noun: what has the problems, such as a method; the message begins with it.
        problems: at least one.
    """
    found = list(problems)
    listed = [
        {"field": cut(field), "message": cut(message)}
        for field, message in found[: limits.PROBLEMS]
    ]
    message = str(found[0]) if len(found) == 1 else f"{found[0]} (and {len(found) - 1} more)"
    return RpcError(code, f"{noun}: {message}", {"problems": listed})


def rpc_error_from(error: McrError) -> RpcError:
    """The protocol's error for an exception of the package."""
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


def cut(text: str, chars: int = limits.MESSAGE_CHARS) -> str:
    """A sentence of limited length; sentences may quote long texts of clients."""
    return text if len(text) <= chars else text[: chars - 3] + "..."

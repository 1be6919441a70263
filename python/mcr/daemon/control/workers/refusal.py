"""The refusal of a worker, as the error that clients get."""

from collections.abc import Callable, Mapping

from ....errors import EngineError, InterfaceError, McrError, RightsError, RuleError
from ....protocol.constants import ErrorCode
from ..api.errors import RpcError
from .messages import Failure

_CLASSES: Mapping[str, type[McrError]] = {
    "interface": InterfaceError,
    "rights": RightsError,
    "rule": RuleError,
}


def error_from(failure: Failure, title_of: Callable[[str], str] = str) -> McrError | RpcError:
    """The error for clients that corresponds to a worker's refusal.

    Args:
        failure: the refusal.
        title_of: how clients know a rule, by its id; needed where the id may be new.
    """
    message, kind, rule_id = reason_of(failure), failure["kind"], failure["rule"]
    if rule_id:
        message = f"rule {title_of(rule_id)}: {message}"
    if kind == "limit":
        return RpcError(ErrorCode.LIMIT, message)
    return _CLASSES.get(kind, EngineError)(message)


def reason_of(failure: Failure) -> str:
    """Why a worker refused, as a sentence; a capability that is missing is the daemon's."""
    message, other = failure["message"], failure.get("alternative")
    if failure.get("capability") is not None:
        message += "; run the daemon as root or grant it the capability"
    return f"{message}, or {other}" if other else message

"""The refusal of a worker, as the error that clients get."""

from collections.abc import Callable

from ....errors import EngineError, InterfaceError, McrError, RightsError, RuleError
from ....protocol.constants import ErrorCode
from ..api.errors import RpcError
from .messages import Failure

_FIX = "run as root"
_DAEMON_FIX = "run the daemon as root or grant it the capability"


def error_from(failure: Failure, title_of: Callable[[str], str] = str) -> McrError | RpcError:
    """The error for clients that corresponds to a worker's refusal.

    Args:
        failure: the refusal.
        title_of: how clients know a rule, by its id; needed where the id may be new.
    """
    message, kind, rule_id = reason_of(failure), failure["kind"], failure["rule"]
    if kind == "rule":
        return RuleError([(f"rule {rule_id}" if rule_id else "", message)])
    if kind == "limit":
        return RpcError(ErrorCode.LIMIT, message)
    if kind == "rights" and rule_id:
        return RightsError(f"rule {title_of(rule_id)}: {message}")
    return {"interface": InterfaceError, "rights": RightsError}.get(kind, EngineError)(message)


def reason_of(failure: Failure) -> str:
    """Why a worker refused, as a sentence; a right that is missing is missing to the daemon."""
    message = failure["message"]
    if failure["kind"] != "rights":
        return message
    if _FIX in message:
        return message.replace(_FIX, _DAEMON_FIX)
    return f"{message}; {_DAEMON_FIX}" if message.startswith("CAP_") else message

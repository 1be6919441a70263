"""The refusal of a worker, as the error that clients get."""

from ....errors import EngineError, InterfaceError, McrError, RightsError, RuleError
from ....protocol.constants import ErrorCode
from ..api.errors import RpcError
from .messages import Failure


def error_from(failure: Failure) -> McrError | RpcError:
    """The error for clients that corresponds to a worker's refusal."""
    message, kind = failure["message"], failure["kind"]
    if kind == "rule":
        return RuleError([(f"rule {failure['rule']}" if failure["rule"] else "", message)])
    if kind == "limit":
        return RpcError(ErrorCode.LIMIT, message)
    return {"interface": InterfaceError, "rights": RightsError}.get(kind, EngineError)(message)

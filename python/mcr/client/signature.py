"""Copying the signature and documentation of a function of `methods` to a client's method."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args

M = TypeVar("M", bound=Callable[..., Any])


def copy_signature(method: M, make: Callable[..., Any]) -> M:
    """Give a method the name, signature and docstring of the function that creates its request.

    Its return type is T where the function returns `Call[T]`.
    """
    functools.update_wrapper(method, make, assigned=("__name__", "__doc__"))
    result = get_args(make.__annotations__["return"])[0]
    method.__annotations__ = {**make.__annotations__, "return": result}
    signature = inspect.signature(make)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [itself, *signature.parameters.values()]
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=result
    )
    del method.__wrapped__  # type: ignore[attr-defined] # inspect would prefer it to the signature set here
    return method

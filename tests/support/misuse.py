"""Calls with arguments of wrong types and values."""

import inspect
from collections.abc import Callable, Mapping
from decimal import Decimal
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mcr import McrError, Rule

_SIMPLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 2, 65_536, 2**31, 2**64]),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sampled_from(
        [
            object(),
            int,
            len,
            range(3),
            Decimal(1),
            Path("x"),
            ip_address("239.1.1.1"),
            ip_network("239.1.0.0/16"),
            Rule.parse("239.1.1.9%lo:5001 to 127.0.0.1:9"),
        ]
    ),
)
JUNK: st.SearchStrategy[Any] = st.one_of(
    _SIMPLE,
    st.lists(_SIMPLE, max_size=3),
    st.tuples(_SIMPLE),
    st.frozensets(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.integers() | st.text(max_size=8), _SIMPLE, max_size=3),
)
"""Values that hardly any argument accepts."""


@st.composite
def wrong_arguments(
    draw: st.DrawFn, call: Callable[..., Any], valid: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Positional arguments and keyword arguments of a call, at least one of them junk.

    `valid` has the arguments without a default.
    """
    parameters = [
        each for each in inspect.signature(call).parameters.values() if each.name != "self"
    ]
    chosen = draw(st.sets(st.sampled_from([each.name for each in parameters]), min_size=1))
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for each in parameters:
        if each.kind is each.VAR_POSITIONAL:
            positional += (
                draw(st.lists(JUNK, min_size=1, max_size=2)) if each.name in chosen else []
            )
        elif each.name in chosen:
            named[each.name] = draw(JUNK)
        elif each.default is each.empty:
            named[each.name] = valid[each.name]
    return positional, named


def misuse(call: Callable[..., Any], given: tuple[list[Any], dict[str, Any]]) -> Any:  # noqa: ANN401
    """Make a call; return its result, or None if it was refused.

    Raises:
        AssertionError: the refusal is no `McrError`, or one that blames the connection.
    """
    positional, named = given
    refusal: McrError | None = None
    try:
        return call(*positional, **named)
    except McrError as error:
        refusal = error
    assert not isinstance(refusal, ConnectionError), (call, given)
    assert str(refusal), (call, given)
    return None

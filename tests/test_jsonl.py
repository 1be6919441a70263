"""Lines from bytes, however the bytes are divided, and within a limit."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr.protocol.jsonl import LineBuffer, LineTooLong


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_lines_do_not_depend_on_the_division(data: bytes, cuts: list[int]) -> None:
    """The same lines for any pieces."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    buffer = LineBuffer()
    lines: list[bytes] = []
    for first, last in itertools.pairwise(places):
        buffer.feed(data[first:last])
        while (line := buffer.take()) is not None:
            lines.append(line)
    *whole, rest = data.split(b"\n")
    assert lines == [line.strip() for line in whole]
    assert buffer.lines == 0
    assert buffer.rest() == rest.strip()


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_has_a_limit(end: bytes) -> None:
    """Complete or not; the line feed counts."""
    buffer = LineBuffer(limit_bytes=10)
    buffer.feed(b"123456789\n")
    assert buffer.take() == b"123456789"
    buffer.feed(b"12345678901" + end)
    with pytest.raises(LineTooLong):
        buffer.take()

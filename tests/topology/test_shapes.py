"""The short ones of the shapes that `make topologies` runs, on each change."""

import pytest

from .shapes import CONVERGE, DIAMOND, Shape, run


@pytest.mark.parametrize("shape", [DIAMOND, CONVERGE], ids=lambda shape: shape.name)
def test_all_arrives_at_every_hop(shape: Shape) -> None:
    """Whole, in order, as often as there are ways, and nothing else."""
    outcome = run(shape)
    assert outcome.received == sum(len(sink.streams) * sink.ways for sink in shape.sinks) * 200

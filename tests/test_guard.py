"""The guard of the hot loop fails when it should; `make guard` counts instructions."""

import json

import pytest
from bench.guard.__main__ import EXPECTED, WORKLOADS, _compare

KNOWN = dict.fromkeys(WORKLOADS, 100_000)


def test_a_path_that_is_a_tenth_longer_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A single workload is enough, and it is named."""
    name = next(iter(WORKLOADS))
    assert _compare(KNOWN | {name: 110_000}, KNOWN) == 1
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if "LONGER" in line] == [
        f"{name:36}   110,000 instructions   +10.0%  LONGER"
    ]
    assert "REBASE=1" in err


@pytest.mark.parametrize("share", [0.5, 0.99, 1.0, 1.01])
def test_an_equal_or_shorter_path_passes(share: float) -> None:
    """A compiler without counts passes too, since there is nothing to compare with."""
    counts = {name: int(count * share) for name, count in KNOWN.items()}
    assert _compare(counts, KNOWN) == 0
    assert _compare(counts, {}) == 0


def test_every_workload_has_a_number() -> None:
    """For each compiler with counts."""
    for numbers in json.loads(EXPECTED.read_text()).values():
        assert set(numbers) == set(WORKLOADS)

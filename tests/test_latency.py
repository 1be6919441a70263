"""The latency of rules: percentiles against exact ones, its JSON, its text and its metrics."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_stats import RULE, STATS

from mcr.protocol.summary import report
from mcr.stats import LatencyStats, Stats
from mcr.web.latency_metrics import BOUNDS_US, latency_metrics

ERROR = 1 / 16
"""The documented relative error of a percentile."""
LEAST_NS = 1024
"""The end of the first bucket."""


def bucket(ns: int) -> tuple[int, int]:
    """The bounds of the bucket of a time: an eighth of a power of two."""
    if ns < LEAST_NS:
        return (0, LEAST_NS)
    width = 1 << (ns.bit_length() - 4)
    least = ns // width * width
    return (least, least + width)


def latency(*times_ns: int, unmeasured: int = 0) -> LatencyStats:
    """The latency of datagrams that took these times."""
    bounds = sorted({bucket(ns) for ns in times_ns})
    counts = [(*each, sum(bucket(ns) == each for ns in times_ns)) for each in bounds]
    return LatencyStats.of(counts, sum(times_ns), max(times_ns, default=0), unmeasured)


@given(
    st.lists(st.integers(0, 2**34 - 1), min_size=1, max_size=60),
    st.floats(0.01, 100, allow_nan=False),
)
def test_a_percentile_is_within_the_error(times_ns: list[int], percent: float) -> None:
    """Of the exact one: the time within which that share was sent."""
    found = latency(*times_ns)
    exact_us = sorted(times_ns)[math.ceil(len(times_ns) * percent / 100) - 1] / 1000
    percentile = found.percentile(percent)
    assert percentile is not None
    assert abs(percentile - exact_us) <= max(exact_us * ERROR, 0.6) + 0.001
    assert found.max_us == max(times_ns) / 1000
    assert percentile <= found.max_us
    assert found.samples == len(times_ns)


def test_the_percentiles_of_a_histogram() -> None:
    """By hand; none while there are no samples, and none out of their range."""
    found = latency(*[20_000] * 98, 300_000, 5_000_000, unmeasured=3)
    assert (found.p50_us, found.p99_us, found.p999_us) == (19.456, 311.296, 5000.0)
    assert (found.max_us, found.mean_us, found.unmeasured) == (5000.0, 72.6, 3)
    none = latency(unmeasured=2)
    assert (none.p50_us, none.max_us, none.mean_us, none.percentile(50)) == (None,) * 4
    for percent in (0, 100.1, math.nan):
        with pytest.raises(ValueError, match="percent: must be above 0"):
            found.percentile(percent)


def test_json_holds_the_whole_histogram() -> None:
    """And reads back as the same value."""
    found = latency(20_000, 20_000, 300_000)
    stats = replace(STATS, rules=(replace(RULE, latency=found),))
    members = stats.as_dict()["rules"][0]["latency"]
    assert members["buckets"] == [[18.432, 20.48, 2], [294.912, 327.68, 1]]
    assert Stats.from_dict(stats.as_dict()).rules[0].latency == found


def test_reports_show_it() -> None:
    """Where it was measured; of a rule that the kernel relays, that there is none."""

    def shown(found: LatencyStats | None, offload: str = "engine") -> list[str]:
        rule = replace(RULE, latency=found, offload=offload)  # type: ignore[arg-type]
        lines = report(replace(STATS, rules=(rule,))).splitlines()
        return [line.strip() for line in lines if "latency" in line]

    measured = latency(20_000, 20_000, 5_000_000)
    assert shown(measured) == ["latency: p50 19 us, p99 5.0 ms, max 5.0 ms of 3 datagrams"]
    assert shown(latency(), "kernel") == ["latency: none (relayed by the kernel)"]
    assert shown(latency()) == shown(None) == shown(None, "kernel") == []


def test_a_histogram_of_prometheus_is_cumulative_and_exact() -> None:
    """Its bounds are those of buckets, so nothing is interpolated."""
    times_ns = (5_000, 8_191, 8_192, 20_000, 40_000_000, 2_000_000_000)
    rule = replace(RULE, latency=latency(*times_ns))
    histogram, _ = latency_metrics([rule, replace(RULE, latency=None)])
    counts = {s.labels["le"]: s.value for s in histogram.samples if "le" in s.labels}
    for bound_us in BOUNDS_US:
        assert counts[str(bound_us / 1e6)] == sum(ns < bound_us * 1000 for ns in times_ns)
    assert counts["+Inf"] == len(times_ns)

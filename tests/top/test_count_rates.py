"""The rates of counts that `mcr top` computes itself."""

from mcr.top.count_rates import CountRates


def test_rates_follow_from_two_readings() -> None:
    """What was not there before, or was reset, has none."""
    rates = CountRates[str]()
    assert rates.since_last(100.0, {"a": 50, "b": 7}) == {"a": 0, "b": 0}
    assert rates.since_last(102.0, {"a": 150, "b": 3, "c": 900}) == {"a": 50, "b": 0, "c": 0}
    assert rates.since_last(103.0, {"c": 901}) == {"c": 1}


def test_a_reading_counts_once() -> None:
    """Drawn again, it keeps its rates; other counts at the same time have none."""
    rates = CountRates[str]()
    rates.since_last(1.0, {"a": 1})
    assert rates.since_last(2.0, {"a": 3}) == {"a": 2}
    assert rates.since_last(2.0, {"a": 3}) is None
    assert rates.since_last(2.0, {"b": 9}) == {"b": 0}
    assert rates.since_last(3.0, {"b": 10}) == {"b": 1}

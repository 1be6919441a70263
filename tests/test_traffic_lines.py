"""The periodic lines of the log about traffic."""

from mcr.stats.traffic_lines import TrafficLines, TrafficSums


def sums(at_s: float, received: int, sent: int) -> TrafficSums:
    """Sums at a time."""
    return TrafficSums(
        at_s=at_s,
        received=received,
        matched=received - 3,
        parse_errors=1,
        mismatches=2,
        lost_frames=4,
        wanted=sent + 5,
        sent=sent,
        sent_bytes=100 * sent,
        lost=5,
    )


def test_the_lines_have_sums_and_rates() -> None:
    """Rates since the last line; none of the first one, and never below 0."""
    lines = TrafficLines()
    assert lines.of(sums(10.0, 1000, 2000)) == (
        "[STATS:Ingress] recv=1000 matched=997 parse_err=1 no_match=2 buf_exhaust=4 (0 pps)",
        "[STATS:Egress] sent=2000 submitted=2005 errors=5 bytes=200000 (0 pps)",
    )
    received, sent = lines.of(sums(12.0, 2001, 1000))
    assert received.endswith(" (500 pps)")
    assert sent.endswith(" (0 pps)")
    assert lines.of(sums(12.0, 2001, 1000))[0].endswith(" (0 pps)")

"""A plot of what every peer relays, beside the one-by-one relay: an SVG, made of bars.

Owns nothing but the drawing; what is drawn was measured.
"""

from collections.abc import Iterator, Sequence
from html import escape
from statistics import median

from .scenarios import Kind
from .session import Result

REFERENCE = "one_by_one"
WIDTH, LABEL, BAR, GAP, TITLE, SCALE_BARS = 900, 290, 16, 10, 40, 480
COLOURS = {"mcr": "#1f6feb", REFERENCE: "#8b949e"}
OTHER = "#c9b458"
RATES = (Kind.THROUGHPUT, Kind.LOSSLESS)


def as_svg(results: Sequence[Result]) -> str:
    """Draw a bar for each peer of each scenario that compares rates, as times the reference."""
    rows: list[str] = []
    top = TITLE
    groups = [group for result in results if (group := _rates(result))]
    longest = max((times for group in groups for _, _, times, _ in group), default=1.0)
    for group in groups:
        for scenario, name, times, rate in group:
            rows += _bar(top, f"{scenario}  {name}", name, times / longest, f"{times:.2f}  {rate}")
            top += BAR + 2
        top += GAP
    title = f'<text x="10" y="22" font-size="15">Rates as times {escape(REFERENCE)}</text>'
    style = 'font-family="sans-serif" font-size="12" fill="#24292f"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" {style}>'
    ground = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, ground, title, *rows, "</svg>", ""])


def _rates(result: Result) -> list[tuple[str, str, float, str]]:
    """Give scenario, peer, times the reference and the rate in words; the reference last."""
    medians = {
        name: median(sample.value for sample in samples)
        for name, samples in result.comparison.samples.items()
        if samples
    }
    base = medians.pop(REFERENCE, 0.0)
    if result.scenario.kind not in RATES or base == 0:
        return []
    peers = {**medians, REFERENCE: base}
    return [
        (result.scenario.name, name, rate / base, f"{rate:,.0f}/s") for name, rate in peers.items()
    ]


def _bar(top: int, label: str, peer: str, share: float, value: str) -> Iterator[str]:
    width = max(1, round(share * SCALE_BARS))
    yield f'<text x="{LABEL - 8}" y="{top + 12}" text-anchor="end">{escape(label)}</text>'
    yield (
        f'<rect x="{LABEL}" y="{top}" width="{width}" height="{BAR}"'
        f' fill="{COLOURS.get(peer, OTHER)}"/>'
    )
    yield f'<text x="{LABEL + width + 6}" y="{top + 12}">{escape(value)}</text>'

"""The plot of the benchmark is an SVG with a bar for every rate."""

from xml.etree import ElementTree

from bench.plot import as_svg
from bench.sampling import Comparison, Sample
from bench.scenarios import EIGHT, LARGE, Kind, Scenario
from bench.session import Result
from bench.topology import Mode

SVG = "{http://www.w3.org/2000/svg}"


def result(kind: Kind, **rates: float) -> Result:
    """A scenario with one run of each peer."""
    samples = {name: [Sample(rate)] for name, rate in rates.items()}
    return Result(Scenario(kind, EIGHT, LARGE, Mode.GRO, 1000), Comparison(samples, ()))


def test_every_rate_has_a_bar_in_proportion() -> None:
    """The fastest has the longest; latencies are not plotted."""
    rates = {"one_by_one": 1000.0, "mcr": 4000.0, "a<b": 2000.0}
    drawn = as_svg([result(Kind.THROUGHPUT, **rates), result(Kind.LATENCY, **rates)])
    root = ElementTree.fromstring(drawn)
    widths = [int(bar.attrib["width"]) for bar in root.findall(f"{SVG}rect")[1:]]
    assert widths == [480, 240, 120]
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert "1:8/1400/gro  a<b" in texts
    assert "4.00  4,000/s" in texts


def test_nothing_measured_is_an_empty_plot() -> None:
    """Without the reference there is nothing to compare with."""
    for results in ([], [result(Kind.THROUGHPUT, mcr=1.0)]):
        assert len(ElementTree.fromstring(as_svg(results)).findall(f"{SVG}rect")) == 1

"""Metrics: equal to what the daemon reports after real traffic, by convention, and bounded."""

import json
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.support.deadline import wait_until
from tests.support.web_process import WebProcess, samples_with, value, web_process
from tests.topology.daemons import Daemon

import mcr

ROOT = Path(__file__).parents[2]
FEED = "239.1.93.1%lo:5001,name=feed to 239.2.93.1%lo:6001 127.0.0.1:7931"
OTHER = "239.1.93.2%lo:5001 to 239.2.93.2%lo:6002"
SENT = 300
NAME = re.compile(r"\bmcr_[a-z_]+")


def send(payloads: Iterable[bytes], group: str = "239.1.93.1") -> None:
    """Send datagrams to a group on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for payload in payloads:
            sender.sendto(payload, (group, 5001))


def rtp(numbers: Iterable[int]) -> Iterator[bytes]:
    """Datagrams with these sequence numbers of RTP."""
    for number in numbers:
        yield struct.pack(">BBHII", 0x80, 96, number, number * 90, 7) + bytes(88)


def wait_for(client: mcr.Client, matched: int) -> mcr.DaemonStats:
    """Wait until the first rule has matched this many, all of them sent on."""

    def look() -> mcr.DaemonStats | None:
        stats = client.stats()
        rule = stats.rules[0]
        done = all(output.sent + output.lost == matched for output in rule.outputs)
        return stats if rule.matched == matched and done else None

    stats = wait_until(look)
    assert stats is not None
    return stats


def test_metrics_equal_the_statistics(daemon: Daemon, web: WebProcess) -> None:
    """Each counter, after real datagrams that an independent receiver counts; sums hold."""
    with daemon.client() as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind(("127.0.0.1", 7931))
        client.add_rules([FEED, OTHER])
        send([bytes(100)] * SENT)
        stats = wait_for(client, SENT)
        receiver.settimeout(5)
        assert [len(receiver.recv(200)) for _ in range(SENT)] == [100] * SENT
        samples = samples_with(web, SENT, "mcr_rule_matched_datagrams_total", name="feed")
    feed = stats.rules[0]
    labels = {"rule": feed.id, "name": "feed"}
    assert value(samples, "mcr_rule_matched_bytes_total", **labels) == SENT * 100
    assert value(samples, "mcr_rule_info", **labels, text=FEED) == 1
    assert value(samples, "mcr_rules", state="joined") == 1
    assert value(samples, "mcr_rule_state", **labels, state="flowing") == 1
    assert value(samples, "mcr_rule_state", **labels, state="joined") == 0
    assert feed.facts.last_seen is not None
    seen = value(samples, "mcr_rule_last_datagram_timestamp_seconds", **labels)
    assert abs(seen - feed.facts.last_seen) < 1
    latency = feed.latency
    assert latency is not None
    assert latency.samples + latency.unmeasured == SENT
    name = "mcr_rule_latency_seconds"
    assert value(samples, f"{name}_count", **labels) == latency.samples
    assert value(samples, f"{name}_bucket", **labels, le="+Inf") == latency.samples
    assert value(samples, f"{name}_sum", **labels) == pytest.approx(latency.sum_us / 1e6)
    assert len([key for key in samples if key[0] == f"{name}_bucket"]) == 2 * 16
    for output in feed.outputs:
        own = {**labels, "output": output.output, "address": output.address}
        names = ("wanted_datagrams", "sent_datagrams", "sent_bytes")
        got = [value(samples, f"mcr_output_{name}_total", **own) for name in names]
        assert got == [output.wanted, output.sent, output.sent_bytes] == [SENT, SENT, SENT * 100]
        assert value(samples, "mcr_output_lost_datagrams_total", **own) == output.lost == 0
    interface = next(each for each in stats.interfaces if each.name == "lo")
    total = "mcr_interface_received_datagrams_total"
    dropped = sum(
        number
        for (name, _labels), number in samples.items()
        if name == "mcr_interface_dropped_datagrams_total"
    )
    matched = value(samples, "mcr_interface_matched_datagrams_total", interface="lo")
    assert value(samples, total, interface="lo") == matched + dropped == interface.received
    assert value(samples, "mcr_up") == value(samples, "mcr_worker_running", worker="0") == 1


def by_convention(family: Metric) -> bool:
    """Whether a metric has a help, a known type, a prefix, and no prefix of a unit."""
    words = set(family.name.split("_"))
    return (
        bool(family.documentation)
        and family.type in ("counter", "gauge", "histogram")
        and family.name.startswith("mcr_")
        and not words & {"ms", "us", "kb", "mb", "milliseconds", "bits", "total"}
    )


def test_metrics_follow_the_conventions(daemon: Daemon, web: WebProcess) -> None:
    """In both formats, which hold the same samples; counters end in _total."""
    with daemon.client() as client:
        client.add_rule(FEED)
    names = {name for name, _labels in samples_with(web, 1, "mcr_rule_info", name="feed")}
    assert [each.name for each in web.families() if not by_convention(each)] == []
    counters = {each.name + "_total" for each in web.families() if each.type == "counter"}
    assert {name for name in names if name.endswith("_total")} == counters & names
    answer = web.request("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    parsed = text_string_to_metric_families(answer.body.decode())  # type: ignore[no-untyped-call]
    assert {sample.name for family in parsed for sample in family.samples} == names
    odd = web.request("/metrics", accept="application/openmetrics-text; version=what;;=,")
    assert odd.status == 200
    assert b"mcr_up 1.0" in odd.body


def test_what_was_lost_before_the_relay(daemon: Daemon, web: WebProcess) -> None:
    """Each number of the sequence is told once by its sender, some never, and two twice."""
    numbers = [*range(20), *range(24, 40), 38, 39]
    with daemon.client() as client:
        client.add_rules([FEED])
        send(rtp(numbers))
        wait_for(client, len(numbers))
        (flow,) = client.flows().flows
        samples = samples_with(web, 4, "mcr_flow_lost_total", name="feed")
    assert flow.sequence is not None
    own = {"rule": flow.rule, "name": "feed", "source": "127.0.0.1", "group": "239.1.93.1"}
    own |= {"source_port": str(flow.source_port), "port": "5001"}
    assert value(samples, "mcr_flow_lost_total", **own, unit="datagrams") == 4
    assert value(samples, "mcr_flow_duplicated_total", **own, unit="datagrams") == 2
    assert value(samples, "mcr_flow_reordered_total", **own, unit="datagrams") == 0
    assert value(samples, "mcr_flow_gaps_total", **own) == 1
    jitter = value(samples, "mcr_flow_jitter_seconds", **own)
    assert jitter == pytest.approx(flow.sequence.jitter_us / 1e6)


def test_the_inputs_of_a_merging_rule(daemon: Daemon, web: WebProcess) -> None:
    """Each has its counts, which add up, and one status."""
    text = "239.1.93.1%lo:5001 + 239.1.93.3%lo:5001,name=pair,merge=rtp to 127.0.0.1:7932"
    with daemon.client() as client:
        client.add_rule(text)
        send(rtp(range(20)))
        wait_for(client, 20)
        send(rtp([*range(15), 20]), "239.1.93.3")
        wait_for(client, 21)
        samples = samples_with(web, 16, "mcr_leg_received_datagrams_total", leg="2")
    for leg, counts in (("1", (20, 20, 0)), ("2", (16, 1, 15))):
        names = [f"mcr_leg_{word}_datagrams_total" for word in ("received", "first", "duplicate")]
        assert [value(samples, name, leg=leg) for name in names] == [*counts]
        assert value(samples, "mcr_leg_status", leg=leg, status="active") == 1
        assert value(samples, "mcr_leg_status", leg=leg, status="down") == 0
    assert value(samples, "mcr_leg_missing_numbers", leg="2") == 5
    assert value(samples, "mcr_merge_lost_numbers", name="pair") == 0
    assert value(samples, "mcr_leg_skew_seconds", leg="2", quantile="0.99") > 0


def test_documented_and_used_metrics_exist(daemon: Daemon, web: WebProcess) -> None:
    """The table of the documents lists each metric; the examples use no other."""
    with daemon.client() as client:
        client.add_rule(FEED)
    samples_with(web, 1, "mcr_rule_info", name="feed")
    exists = {each.name + ("_total" if each.type == "counter" else "") for each in web.families()}
    rows = re.findall(r"^\| (`mcr_.*?) \|", (ROOT / "docs" / "web.md").read_text(), re.MULTILINE)
    assert set(NAME.findall(" ".join(rows))) == exists
    histograms = [each.name for each in web.families() if each.type == "histogram"]
    series = exists | {f"{name}_bucket" for name in histograms}
    for name in ("grafana-dashboard.json", "prometheus-alerts.yml"):
        text = (ROOT / "examples" / name).read_text()
        used = set(NAME.findall(text))
        assert used
        assert used <= series, used - series
    board = json.loads((ROOT / "examples" / "grafana-dashboard.json").read_text())
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])


def test_the_number_of_series_is_bounded(daemon: Daemon, observers: Path) -> None:
    """With more rules than the limit, the others are counted."""
    rules = [f"239.1.93.{n}%lo:5001 to 127.0.0.1:{7000 + n}" for n in range(10, 16)]
    with daemon.client() as client, web_process(observers, "--metric-rules", "2") as web:
        client.add_rules(rules)
        samples = samples_with(web, 6, "mcr_rules", state="joined")
    assert len([key for key in samples if key[0] == "mcr_rule_info"]) == 2
    assert len([key for key in samples if key[0] == "mcr_output_parked"]) == 2
    assert value(samples, "mcr_rules_left_out") == value(samples, "mcr_outputs_left_out") == 4

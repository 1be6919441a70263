"""JSON, events, readiness and the page, of a real daemon."""

import http.client
import json
import re
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.support.deadline import wait_until
from tests.support.own_command import mcr_here
from tests.support.web_process import WebProcess, samples_with, web_process
from tests.topology.daemons import Daemon, serving

from .test_metrics import FEED, SENT, send, wait_for

BROKEN = "239.1.93.9%no-such-if:5001,name=broken to 127.0.0.1:7009"
SCRIPTS = ("main", "chart", "latency", "rule")
PAGES = ("/", "/static/style.css", *(f"/static/{name}.js" for name in SCRIPTS))


def overview(web: WebProcess, query: str = "") -> dict[str, Any]:
    """The table of rules."""
    table: dict[str, Any] = web.json(f"/api/overview?{query}")["table"]
    return table


def test_the_json_is_that_of_the_daemon(daemon: Daemon, web: WebProcess) -> None:
    """Statistics, rules, flows, workers and interfaces; one rule with its history and events."""
    with daemon.client() as client:
        client.add_rule(FEED)
        send([bytes(100)] * SENT)
        stats = wait_for(client, SENT)
        rule_id = stats.rules[0].id
        wait_until(lambda: web.json("/api/stats")["totals"]["matched"] >= stats.totals.matched)
        printed = json.loads(mcr_here("stats", "--json", "--socket", daemon.socket).out)
        served = web.json("/api/stats")
        assert served["totals"] == printed["totals"]
        assert served["rules"][0]["outputs"][0]["sent"] == SENT
        assert web.json("/api/rules")["rules"][0]["name"] == "feed"
        (flow,) = web.json("/api/flows")["flows"]
        assert (flow["rule"], flow["datagrams"]) == (rule_id, SENT)
        assert web.json(f"/api/flows?rule={rule_id}&limit=1")["total"] == 1
        assert web.json("/api/workers")["workers"][0]["state"] == "running"
        assert web.json("/api/interfaces")["interfaces"][0]["name"] == "lo"

    def sampled() -> Any:  # noqa: ANN401 -- JSON
        found = web.json(f"/api/rules/{rule_id}")
        rates = found["history"]["matched_pps"]
        return found if any(rate is not None for rate in rates) else None

    one = wait_until(sampled)
    assert one["rule"]["matched"] == SENT
    assert one["events"][0]["event"] == "added"
    assert {len(column) for column in one["history"].values()} == {len(one["history"]["times"])}
    (own,) = one["flows"]["flows"]
    assert [own[name] for name in ("source", "source_port", "datagrams")] == [
        flow[name] for name in ("source", "source_port", "datagrams")
    ]
    findings = web.json(f"/api/doctor?rule={rule_id}")["findings"]
    assert {each["severity"] for each in findings} <= {"ok", "advice", "problem"}
    assert "membership" in {each["name"] for each in findings}


def test_the_table_is_filtered_and_sorted(daemon: Daemon, web: WebProcess) -> None:
    """By the server, in pages; a rule that cannot receive is not ready."""
    rules = [f"239.1.94.{n}%lo:5001,name=r{n:02} to 127.0.0.1:{7000 + n}" for n in range(1, 31)]
    with daemon.client() as client:
        client.add_rules(rules)
        wait_until(lambda: overview(web)["total"] == 30)
        assert web.json("/readyz") == {"ready": True, "problems": []}
        client.add_rule(BROKEN)
        wait_until(lambda: overview(web)["total"] == 31)
    page = overview(web, "sort=name&order=descending&offset=2&limit=3")
    assert [row["name"] for row in page["rows"]] == ["r28", "r27", "r26"]
    assert page["found"] == 31
    assert [row["name"] for row in overview(web, "text=R07")["rows"]] == ["r07"]
    assert [row["name"] for row in overview(web, "state=unresolved")["rows"]] == ["broken"]
    assert overview(web, "state=problems")["found"] == 31, "as --only-problems: they get nothing"
    assert overview(web, "state=joined")["found"] == 30
    ready = web.json("/readyz", status=503)
    assert not ready["ready"]
    assert ready["problems"] == ["rule broken: unresolved: there is no interface no-such-if"]
    for query in ("limit=0", "limit=x", "offset=-1", "limit=9999999", f"text={'x' * 300}"):
        assert web.json(f"/api/overview?{query}", status=400)["error"]
    assert "no rule" in web.json("/api/rules/0123456789ab", status=404)["error"]
    assert web.json("/api/flows?rule=0123456789ab", status=404)["error"]
    assert web.json("/api/doctor?rule=0123456789ab", status=404)["error"]


def test_alarms_are_shown(daemon: Daemon, web: WebProcess) -> None:
    """A rule that expects what does not come: not ready, a red row, a metric; then all is well."""
    with daemon.client() as client:
        client.add_rule("239.1.96.1%lo:5001,name=watched,expect=0.5s to 127.0.0.1:7001")
        told = b"rule watched: nothing for "
        wait_until(lambda: told in web.request("/readyz").body)
        (row,) = overview(web, "state=problems")["rows"]
        assert row["alarms"][0].startswith("nothing for ")
        assert row["state_code"] == "below_expected"
        samples_with(web, 1, "mcr_alarms", alarm="silent")
        samples_with(web, 0, "mcr_alarms", alarm="low_pps")
        samples_with(web, 1, "mcr_rule_state", name="watched", state="below_expected")
        names = {name for name, _labels in web.samples()}
        assert "mcr_rule_alarm_start_timestamp_seconds" in names
        kinds = {event["kind"] for event in web.json("/api/events")["events"]}
        assert "alarm" in kinds
        client.replace_rules([])
    wait_until(lambda: web.request("/readyz").status == 200)


def test_the_stream_sends_events_and_samples(daemon: Daemon, web: WebProcess) -> None:
    """A change of the rules arrives at once, and the newest rates regularly."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    connection.request("GET", "/api/stream")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    with daemon.client() as client:
        client.add_rule(FEED)
    seen: dict[str, Any] = {}
    while not {"event", "sample"} <= set(seen):
        line = answer.readline().decode()
        if line.startswith("event: "):
            value = json.loads(answer.readline()[6:])
            if value.get("kind") in (None, "rule"):  # an alarm of the test before may end
                seen[line[7:-1]] = value
    connection.close()
    assert seen["event"]["kind"] == "rule"
    assert {"times", "matched_pps", "lost_pps", "failure"} <= set(seen["sample"])
    wait_until(lambda: b"mcr_web_streams 0.0" in web.request("/metrics").body)


def test_the_page_loads_nothing_from_elsewhere(web: WebProcess) -> None:
    """All that it names is served here, nothing is inline, and the policy forbids the rest."""
    names = set(PAGES)
    page = web.request("/").body.decode()
    names |= set(re.findall(r'(?:src|href)="(/static/[^"]*)"', page))
    for name in names:
        answer = web.request(name)
        assert answer.status == 200, name
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        text = answer.body.decode()
        assert not re.search(r"https?://(?!www\.w3\.org)|innerHTML|\bstyle=|<script>|eval\(", text)
        for found in re.findall(r'from "\./([a-z]+\.js)"', text):
            assert web.request(f"/static/{found}").status == 200, found
    folder = files("mcr.web").joinpath("static")
    served = {each.name for each in folder.iterdir()} - {"index.html", "login.html"}
    assert all(web.request(f"/static/{name}").status == 200 for name in served)


def test_nothing_can_be_changed(web: WebProcess) -> None:
    """Other methods and paths are refused."""
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert web.request("/api/rules", method, body="{}").status == 405
        assert web.request("/", method).status == 405
    for path in ("/nowhere", "/static/../app.py", "/static/%2e%2e/app.py", "/static/", "//"):
        assert web.request(path).status == 404
    assert web.request("/healthz", "HEAD").body == b""


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    """The server starts without it, says so, and continues once it is there."""
    path = tmp_path / "mcr.sock"
    with web_process(path) as web:
        assert web.json("/healthz") == {"status": "ok"}
        assert str(path) in web.json("/readyz", status=503)["problems"][0]
        assert str(path) in web.json("/api/stats", status=503)["error"]
        assert [each.name for each in web.families() if each.name == "mcr_rules"] == []
        assert b"mcr_up 0.0" in web.request("/metrics").body
        with serving(None, "--ingress", "udp", socket=path) as daemon:
            wait_until(lambda: web.request("/readyz").status == 200)
            assert b"mcr_up 1.0" in web.request("/metrics").body
            daemon.end()
        wait_until(lambda: web.request("/readyz").status == 503)
        web.process.send_signal(signal.SIGTERM)
        assert web.process.wait(20) == 0


def test_without_the_extra_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It names what is missing, and how to install it."""
    script = (
        "import sys\n"
        "sys.modules['uvicorn'] = None\n"
        "from mcr.cli import main\n"
        "sys.exit(main(['web', '--port', '0']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    text = "mcr: mcr web needs uvicorn; install them with pip install 'mcr-relay[web]'\n"
    assert done.stderr == text

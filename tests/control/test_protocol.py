"""The protocol over the real socket of a real control process."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.raw_client import RawClient

from mcr.alarms.event import Event
from mcr.choices import FACILITIES
from mcr.daemon.control.api.method_types import METHOD_TYPES
from mcr.daemon.control.api.schema import text
from mcr.json_codec import JsonError, decode_object
from mcr.protocol.constants import ErrorCode
from mcr.protocol.results import Pong

ONE = "239.1.1.1%lo:5001,name=one to 127.0.0.1:7001"
TWO = "239.1.1.2%lo:5001 to 127.0.0.1:7002"
THREE = "239.1.1.3%lo:5001,name=three to 127.0.0.1:7003"
SCHEMA = Path(__file__).parents[2] / "docs" / "protocol.schema.json"


def call(client: RawClient, method: str, /, **params: object) -> Any:  # noqa: ANN401 -- it differs
    """The result, checked against the schema."""
    result = client.call(method, **params)
    assert decode_object(METHOD_TYPES[method].result, result).as_dict() == result, method
    return result


def ids(rules: list[dict[str, Any]]) -> list[str]:
    """The ids of rules."""
    return [rule["id"] for rule in rules]


def test_the_schema_is_current() -> None:
    """`python -m mcr.daemon.control.api.schema` generates it."""
    assert SCHEMA.read_text() == text()


def test_hello_and_ping(client: RawClient, supervisor: FakeSupervisor) -> None:
    """The daemon's greeting and the answer to a ping."""
    hello = call(client, "hello", protocol=1, client="a test")
    assert hello["pid"] == supervisor.process.pid
    assert (hello["ingress"], hello["workers"], hello["revision"]) == ("udp", 2, 0)
    ping = call(client, "ping")
    assert ping["workers"] == {"running": 2, "of": 2}


def test_another_protocol_is_refused(reader: RawClient) -> None:
    """The connection is closed."""
    error = reader.error("hello", protocol=2)
    assert error["code"] == ErrorCode.PROTOCOL_MISMATCH
    assert error["data"] == {"supported": [1]}
    assert reader.is_closed()


def test_changes_of_rules(client: RawClient, supervisor: FakeSupervisor) -> None:
    """Each change has a revision; all workers have it when it is answered."""
    added = call(client, "rules.add", rules=[ONE, {"rule": TWO, "enabled": False}])
    one, two = ids(added["added"])
    assert added["revision"] == 1
    assert [rule["enabled"] for rule in added["added"]] == [True, False]
    for worker in supervisor.workers.values():
        assert worker.revision == 1
        assert {each: spec["enabled"] for each, spec in worker.rules.items()} == {
            one: True,
            two: False,
        }
    assert call(client, "rules.disable", rules=["one"])["changed"] == [one]
    assert call(client, "rules.enable", rules=[one, two])["changed"] == [one, two]
    unchanged = call(client, "rules.enable", rules=[one])
    assert (unchanged["revision"], unchanged["kept"], unchanged["changed"]) == (3, [one], [])
    listed = call(client, "rules.list")
    assert (ids(listed["rules"]), listed["revision"]) == ([one, two], 3)
    assert call(client, "rules.get", rule="one")["rule"] == listed["rules"][0]
    assert call(client, "rules.remove", rules=["one"])["removed"] == [one]
    assert [list(worker.rules) for worker in supervisor.workers.values()] == [[two], [two]]


def test_an_edit_is_sent_as_such(client: RawClient, supervisor: FakeSupervisor) -> None:
    """Workers get the change only, and the answer has no outputs; an old revision is refused."""
    (one,) = ids(
        call(client, "rules.add", rules=[ONE.replace(" to ", " to 127.0.0.1:7009 ")])["added"]
    )
    change = {
        "options": {"expect": "2s"},
        "set_outputs": [{"output": "127.0.0.1:7001", "options": {"ttl": 16}}],
        "add_outputs": ["127.0.0.1:7002", {"address": "127.0.0.1", "port": 7003}],
    }
    assert call(client, "rules.edit", rule="one", **change, dry_run=True)["revision"] == 1
    done = call(client, "rules.edit", rule="one", **change, expected_revision=1)
    assert (done["revision"], done["changed"], done["added"]) == (2, [one], [])
    call(client, "rules.edit", rule=one, remove_outputs=[1])
    for worker in supervisor.workers.values():
        outputs = worker.rules[one]["outputs"]
        assert [(each["port"], each["ttl"]) for each in outputs] == [
            (7001, 16),
            (7002, 64),
            (7003, 64),
        ]
    rule = call(client, "rules.get", rule="one")["rule"]
    assert rule["rule"] == (
        "239.1.1.1%lo:5001,name=one,expect=2s"
        " to 127.0.0.1:7001,ttl=16 127.0.0.1:7002 127.0.0.1:7003"
    )
    for given, code in (
        (
            {"rule": "one", "remove_outputs": [1], "expected_revision": 2},
            ErrorCode.REVISION_CONFLICT,
        ),
        ({"rule": "one"}, ErrorCode.RULE_REFUSED),
        ({"rule": "no", "remove_outputs": [1]}, ErrorCode.NO_SUCH_RULE),
    ):
        assert client.error("rules.edit", **given)["code"] == code


def test_an_existing_rule_is_kept(client: RawClient, supervisor: FakeSupervisor) -> None:
    """Unchanged, whatever name or state is requested; workers get no request."""
    (one,) = ids(call(client, "rules.add", rules=[ONE])["added"])
    before = call(client, "rules.list")["rules"]
    worker = supervisor.workers[0]
    worker.asked.clear()
    again = call(client, "rules.add", rules=[ONE], expected_revision=1)
    assert (again["revision"], again["added"], again["kept"]) == (1, [], [one])
    assert (again["changed"], again["warnings"]) == ([], [])
    named = ONE.replace("name=one", "name=uno")
    would = call(client, "rules.add", rules=[named], enabled=False, dry_run=True)
    assert (would["kept"], would["dry_run"]) == ([one], True)
    assert would["warnings"] == [
        "rule 1: already exists and keeps its name 'one'",
        "rule 1: already exists and stays enabled",
    ]
    assert call(client, "rules.list")["rules"] == before
    assert "prepare" not in worker.asked
    mixed = call(client, "rules.add", rules=[TWO, ONE, THREE])
    assert (mixed["revision"], mixed["kept"], len(mixed["added"])) == (2, [one], 2)
    assert ids(call(client, "rules.list")["rules"]) == [one, *ids(mixed["added"])]


def test_all_rules_are_replaced_at_once(client: RawClient, supervisor: FakeSupervisor) -> None:
    """Rules that stay are not affected; the order is the new one."""
    (one, two) = ids(call(client, "rules.add", rules=[ONE, TWO])["added"])
    seen: list[dict[str, Any]] = []
    worker = supervisor.workers[0]

    def watch(request: dict[str, Any]) -> dict[str, Any]:
        seen.append(request)
        return {"ok": worker._prepare(request)}

    worker.script["prepare"] = watch
    replaced = call(client, "rules.replace", rules=[THREE, ONE], expected_revision=1)
    (three,) = ids(replaced["added"])
    assert (replaced["removed"], replaced["kept"]) == ([two], [one])
    assert [rule["id"] for rule in seen[0]["add"]] == [three]
    assert ids(call(client, "rules.list")["rules"]) == [three, one]
    same = call(client, "rules.replace", rules=[THREE, ONE])
    assert (same["revision"], same["kept"]) == (2, [three, one])


def test_a_dry_run_changes_nothing(client: RawClient, supervisor: FakeSupervisor) -> None:
    """It returns the effect of the change."""
    would = call(client, "rules.add", rules=[ONE], dry_run=True)
    assert (would["revision"], len(would["added"]), would["dry_run"]) == (0, 1, True)
    assert call(client, "rules.list")["rules"] == []
    assert "prepare" not in supervisor.workers[0].asked
    assert client.error("rules.add", rules=[ONE, ONE], dry_run=True)["code"] == -32000


def test_an_expected_revision_is_checked(client: RawClient) -> None:
    """With another revision nothing changes."""
    call(client, "rules.add", rules=[ONE])
    error = client.error("rules.add", rules=[TWO], expected_revision=0)
    assert error["code"] == ErrorCode.REVISION_CONFLICT
    assert error["data"] == {"expected": 0, "actual": 1}
    assert len(call(client, "rules.list")["rules"]) == 1


def test_names_are_unique_among_the_disabled_too(client: RawClient) -> None:
    """The problem names the rule and its field."""
    call(client, "rules.add", rules=[ONE], enabled=False)
    error = client.error("rules.add", rules=["239.1.1.9%lo:5001,name=one to 127.0.0.1:7009"])
    assert error["code"] == ErrorCode.RULE_REFUSED
    (problem,) = error["data"]["problems"]
    assert problem["field"] == "rule 1, name"


def test_rule_objects_name_any_interface(client: RawClient) -> None:
    """Text cannot; problems name the fields of the object."""
    given = {
        "name": "odd",
        "input": {"address": "239.1.1.1", "port": "5001-5002", "interface": "a+b"},
        "outputs": [{"address": "127.0.0.1", "port": "6001-6002", "ttl": 3, "dscp": "keep"}],
    }
    (rule,) = call(client, "rules.add", rules=[given])["added"]
    assert rule["outputs"][0]["ttl"] == 3
    assert rule["state"] == "unresolved: there is no interface a+b"
    again = {"rule": given, "enabled": False}
    assert call(client, "rules.replace", rules=[again])["changed"] == [rule["id"]]
    wrong = {"input": {"address": "239.1.1.x", "port": 0}, "outputs": [{"address": "h", "prt": 1}]}
    error = client.error("rules.add", rules=[ONE, wrong])
    fields = [problem["field"] for problem in error["data"]["problems"]]
    assert fields == ["rule 2, output 1, port", "rule 2, output 1, prt"]
    wrong["outputs"] = [{"address": "h", "port": 1}]
    error = client.error("rules.add", rules=[wrong])
    fields = [problem["field"] for problem in error["data"]["problems"]]
    assert fields == ["rule 1, input, address", "rule 1, input, port"]


def test_rule_objects_have_several_inputs(client: RawClient) -> None:
    """The answers name them in the rule's text; each has problems of its own."""
    inputs = [{"address": f"239.1.1.{n}", "port": 5001, "interface": "lo"} for n in (1, 2)]
    output = {"address": "127.0.0.1", "port": 6001}
    given = {"inputs": inputs, "merge": "rtp", "late": "drop", "outputs": [output]}
    (rule,) = call(client, "rules.add", rules=[given])["added"]
    assert rule["rule"] == (
        "239.1.1.1%lo:5001 + 239.1.1.2%lo:5001,merge=rtp,late=drop to 127.0.0.1:6001"
    )
    odd = [*inputs, {"address": "239.1.1.3", "port": 5001, "interface": "a+b"}]
    other = [{"address": "127.0.0.1", "port": 6002}]
    (rule,) = call(
        client, "rules.add", rules=[{**given, "inputs": odd, "outputs": other}], dry_run=True
    )["added"]
    assert rule["object"]["inputs"] == odd
    wrongs: list[tuple[dict[str, object], str]] = [
        ({"inputs": [*inputs, {"address": "239.1.1.3", "prt": 1}]}, "rule 1, input 3, prt"),
        ({"inputs": [*inputs, {"address": "x", "port": 1}]}, "rule 1, input 3, address"),
        ({"inputs": []}, "rule 1, inputs"),
        ({"input": inputs[0]}, "rule 1, inputs"),
        ({"merge": "rpt"}, "rule 1, merge"),
        ({"late": "never"}, "rule 1, late"),
        ({"merge": None}, "rule 1, merge"),
        ({"inputs": None}, "rule 1, input"),
    ]
    for wrong, field in wrongs:
        error = client.error("rules.add", rules=[{**given, **wrong}])
        assert field in [problem["field"] for problem in error["data"]["problems"]]


def test_counters_of_all_workers_are_added(client: RawClient, supervisor: FakeSupervisor) -> None:
    """And the state says that datagrams flow."""
    (one, two) = ids(call(client, "rules.add", rules=[ONE, TWO])["added"])
    supervisor.workers[0].counts = {one: 5}
    supervisor.workers[1].counts = {one: 2, two: 1}
    stats = call(client, "stats")
    assert [rule["matched"] for rule in stats["rules"]] == [7, 1]
    assert stats["rules"][0]["state"] == "flowing from 127.0.0.1"
    assert stats["totals"]["sent"] == 8
    assert {why: count for why, count in stats["totals"]["dropped"].items() if count} == {
        "no_rule": 2
    }
    assert stats["stale_workers"] == []
    (only,) = call(client, "stats", rules=[two])["rules"]
    assert only["id"] == two
    call(client, "rules.disable", rules=[one])
    assert call(client, "rules.get", rule=one)["rule"]["state"] == "disabled"


def test_interfaces_and_workers(reader: RawClient) -> None:
    """As the kernel and the supervisor report them."""
    names = [each["name"] for each in call(reader, "interfaces.list")["interfaces"]]
    assert "lo" in names
    workers = call(reader, "workers.list")["workers"]
    assert [(each["number"], each["state"]) for each in workers] == [(0, "running"), (1, "running")]


def test_log_levels(client: RawClient, supervisor: FakeSupervisor) -> None:
    """Of all facilities and of one; workers get them, and the next process keeps them."""
    assert call(client, "logs.get") == {"global": "info", "facilities": dict.fromkeys(FACILITIES)}
    call(client, "logs.set", level="error")
    changed = call(client, "logs.set", level="debug", facility="worker")
    assert (changed["global"], changed["facilities"]["worker"]) == ("error", "debug")
    levels = dict.fromkeys(("worker", "ingress", "egress", "interfaces"), "error")
    assert supervisor.workers[0].log_levels == {**levels, "worker": "debug"}
    supervisor.restart_control()
    with RawClient(supervisor.path) as again:
        assert call(again, "logs.get") == changed
        assert call(again, "logs.set", level=None, facility="worker")["global"] == "error"
        assert again.error("logs.set", level=None)["code"] == ErrorCode.INVALID_PARAMS
        wrong = again.error("logs.set", level="warnin", facility="workers")["data"]["problems"]
        assert [each["message"].rpartition("; ")[2] for each in wrong] == [
            "did you mean 'warning'?",
            "did you mean 'worker'?",
        ]


def test_events(client: RawClient, supervisor: FakeSupervisor) -> None:
    """For subscribers to their kinds, from the requested number on."""
    (one,) = ids(call(client, "rules.add", rules=[ONE])["added"])
    with RawClient(supervisor.path) as listener:
        stream = call(listener, "events.subscribe", after=0, kinds=["rule", "worker", "interface"])
        assert (stream["oldest"], stream["missed"]) == (1, 0)
        worker = supervisor.workers[0]
        down = {"state": "waiting", "reason": "eth9 is down"}
        worker.push(event="rules", rules=[{"id": one, "trouble": down, "parked": [None]}])
        waiting = call(client, "rules.get", rule=one)["rule"]
        assert waiting["state"] == "waiting: eth9 is down"
        assert (waiting["state_code"], waiting["facts"]["obstacle"]) == ("waiting", "eth9 is down")
        worker.push(event="rules", rules=[{"id": one, "trouble": None, "parked": ["lo is down"]}])
        worker.push(event="link", name="lo", index=1, change="mtu", detail="1500")
        told: list[dict[str, Any]] = []
        while len(told) < 7:
            told.append(listener.line()["params"])
            assert Event.from_dict(told[-1]).as_dict() == told[-1]
        assert [(event["kind"], event["event"]) for event in told] == [
            ("worker", "started"),
            ("worker", "started"),
            ("rule", "added"),
            ("rule", "waiting"),
            ("rule", "resumed"),
            ("rule", "parked"),
            ("interface", "mtu"),
        ]
        assert told[2]["id"] == one
        assert told[6]["text"] == "lo has another MTU: 1500"
        assert call(listener, "events.unsubscribe") == {}
    rule = call(client, "rules.get", rule=one)["rule"]
    assert rule["state"] == "joined, no frame seen on lo; output 1 parked: lo is down"


def test_log_records_are_events(client: RawClient, supervisor: FakeSupervisor) -> None:
    """A record of a worker has its facility."""
    call(client, "events.subscribe", kinds=["log"])
    supervisor.workers[1].push(event="log", level="warning", facility="ingress", text="no buffers")
    event = client.line()["params"]
    assert (event["level"], event["facility"]) == ("warning", "ingress")
    assert event["text"] == "worker 1: no buffers"


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"nonsense", -32700, None),
        (b"3", -32600, None),
        (b"{}", -32600, None),
        (b'{"jsonrpc":"2.0","id":7}', -32600, 7),
        (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":7.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":"x","method":"ping","extra":1}', -32600, "x"),
        (b'{"jsonrpc":"2.0","id":"x","method":"ping","params":[1]}', -32602, "x"),
        (b'{"jsonrpc":"2.0","id":"x","method":"ping","params":{"a":1}}', -32602, "x"),
        (b'{"jsonrpc":"2.0","id":null,"method":"pong"}', -32601, None),
        (b"[]", -32600, None),
        (b"[" + b"1," * 100 + b"1]", -32004, None),
    ],
)
def test_invalid_requests_get_errors(
    reader: RawClient, line: bytes, code: int, request_id: object
) -> None:
    """The connection stays open."""
    reader.send(line + b"\n")
    answer = reader.line()
    assert (answer["error"]["code"], answer["id"]) == (code, request_id)
    assert call(reader, "ping")


def test_batches_and_notifications(reader: RawClient) -> None:
    """Answers are in order; notifications get none."""
    ping = {"jsonrpc": "2.0", "method": "ping"}
    batch = [ping | {"id": 1}, ping, 7, ping | {"id": "two"}, ping | {"id": 3, "method": "x"}]
    reader.send(json.dumps(batch).encode() + b"\n" + json.dumps(ping).encode() + b"\n")
    answers = reader.line()
    assert [answer["id"] for answer in answers] == [1, None, "two", 3]
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        None,
        -32600,
        None,
        -32601,
    ]
    reader.send(json.dumps([ping, ping]).encode() + b"\n")
    assert call(reader, "ping")


def test_wrong_types_name_their_fields(reader: RawClient) -> None:
    """All at once, with the expected type."""
    error = reader.error("rules.add", rules="x", dry_run=1, enabeld=True, expected_revision=-1)
    problems = {each["field"]: each["message"] for each in error["data"]["problems"]}
    assert problems == {
        "rules": "must be an array",
        "dry_run": "must be true or false",
        "enabeld": "is not known; did you mean 'enabled'?",
        "expected_revision": "must be at least 0",
    }
    error = reader.error("events.subscribe", kinds=["rule", "rules"])
    assert error["data"]["problems"][0]["field"] == "kind 2"
    error = reader.error("stats", rules=[1, 2])
    assert error["data"]["problems"] == [{"field": "rule 1", "message": "must be a string"}]


def test_no_such_rule(reader: RawClient) -> None:
    """By id or name."""
    for method in ("rules.remove", "rules.enable", "stats", "rules.list"):
        assert reader.error(method, rules=["nobody"])["code"] == ErrorCode.NO_SUCH_RULE
    assert "'nobody'" in reader.error("rules.get", rule="nobody")["message"]


def test_a_refusal_leaves_all_workers_as_they_were(
    client: RawClient, supervisor: FakeSupervisor
) -> None:
    """A worker that has prepared the change aborts it."""
    call(client, "rules.add", rules=[ONE])
    supervisor.workers[1].script["prepare"] = "refuse"
    error = client.error("rules.add", rules=[TWO])
    assert error["code"] == ErrorCode.RIGHTS
    assert error["message"].startswith("CAP_NET_RAW is missing; run the daemon as root")
    assert "abort" in supervisor.workers[0].asked
    assert {worker.revision for worker in supervisor.workers.values()} == {1}
    assert len(call(client, "rules.list")["rules"]) == 1
    del supervisor.workers[1].script["prepare"]
    assert call(client, "rules.add", rules=[TWO])["revision"] == 2


def test_results_match_their_schema() -> None:
    """An additional member would fail."""
    with pytest.raises(JsonError, match="revision: input should be a valid integer"):
        decode_object(Pong, {"revision": "1"})


def test_shutdown_is_answered_first(client: RawClient, supervisor: FakeSupervisor) -> None:
    """Then the supervisor gets the request."""
    assert call(client, "shutdown") == {}
    assert client.is_closed()
    wait_until(supervisor.shutdown_asked.is_set, what="the supervisor was asked")

"""Values as JSON and back: the text, the names of invalid members, and invalid texts."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcr.json_codec import JsonError, decode, decode_object, encode, encode_in_pieces
from mcr.protocol.results import LogLevels, RuleInfo, RuleList, RuleOutputInfo, WorkerCount

OUTPUT = RuleOutputInfo("127.0.0.1:7001", 64, None)
INFO = RuleInfo("0123456789ab", None, "A to B", True, "disabled", (OUTPUT,))
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.just('"rules":[]')
INFOS = st.lists(st.builds(replace, st.just(INFO), name=TEXTS, rule=TEXTS, state=TEXTS)).map(tuple)


@given(INFOS)
def test_values_are_written_and_read(infos: tuple[RuleInfo, ...]) -> None:
    """Like `json.dumps`, in one piece or in many."""
    rules = RuleList(3, infos)
    text = encode(rules)
    assert text == json.dumps(rules.as_dict(), separators=(",", ":")).encode()
    assert b"".join(encode_in_pieces(rules, "rules")) == text
    assert decode(RuleList, text) == rules
    assert decode_object(RuleList, json.loads(text)) == rules


def test_optional_and_renamed_members() -> None:
    """`object` only if text cannot express the rule; `global` is a keyword of Python."""
    assert "object" not in INFO.as_dict()
    assert replace(INFO, object={"a": 1}).as_dict()["object"] == {"a": 1}
    assert LogLevels("info", {}).as_dict() == {"global": "info", "facilities": {}}
    assert decode(LogLevels, b'{"global":"info","facilities":{},"new":1}').level == "info"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "running: field required"),
        ({"running": "1"}, "running: input should be a valid integer"),
        ({"running": True}, "running: input should be a valid integer"),
        ({"running": 1.0}, "running: input should be a valid integer"),
        ({"running": -1}, "running: input should be greater than or equal to 0"),
        ([], "input should be an object"),
        (None, "input should be an object"),
    ],
)
def test_wrong_members_are_named(value: object, text: str) -> None:
    """With the expected type."""
    with pytest.raises(JsonError) as error:
        decode_object(WorkerCount, value)
    assert str(error.value) == text


def test_paths_lead_to_the_member() -> None:
    """Through arrays and objects, whatever the names of their members."""
    infos = [INFO.as_dict(), INFO.as_dict() | {"id": 7}]
    with pytest.raises(JsonError, match=r"^rules\[1\]\.id: input should be a valid string$"):
        decode_object(RuleList, {"revision": 1, "rules": infos})
    levels = {"global": "info", "facilities": {"a\x1bb": 1, "x" * 99: 2}}
    with pytest.raises(JsonError, match=r"^facilities\.'a\\x1bb': input should be a"):
        decode_object(LogLevels, levels)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[" * 10_000, b'{"running":NaN,"of":1}', b'{"running":"\\ud800"}']
)
def test_invalid_json(text: bytes) -> None:
    """Each is refused with the reason."""
    with pytest.raises(JsonError, match=r"invalid JSON|valid integer"):
        decode(WorkerCount, text)


def test_values_beyond_json() -> None:
    """Even if they were not parsed from JSON."""
    with pytest.raises(JsonError):
        decode_object(WorkerCount, {"running": object(), "of": 1})


def test_words_of_a_newer_daemon_are_accepted() -> None:
    """States and alarms are lists that grow; what is no word is refused as ever."""
    rule: dict[str, object]
    rule = {"id": "0" * 12, "name": None, "rule": "x", "enabled": True, "state": "s", "outputs": []}
    alarm = {"code": "novel", "since": 1.0, "expected": 1.0, "seen": 0.0}
    newer = {**rule, "state_code": "novel", "alarms": [alarm]}
    found = decode_object(RuleInfo, newer)
    assert (found.state_code, found.alarms[0].code) == ("novel", "novel")
    assert found.as_dict()["state_code"] == "novel"
    with pytest.raises(JsonError, match="state_code"):
        decode_object(RuleInfo, {**newer, "state_code": 7})

"""What a client hears of a change that workers refuse."""

from typing import Any

import pytest
from tests.support.fake_supervisor import FakeSupervisor

import mcr
from mcr.cli import main

LACKS = "CAP_NET_BIND_SERVICE is missing: port 500 needs it"
KEEP = "CAP_NET_RAW is missing: (sport=keep) needs it"
FIX = "run the daemon as root or grant it the capability"


@pytest.mark.parametrize(
    ("rule", "refusal", "said"),
    [
        (
            "239.1.1.9%lo:500 to 127.0.0.1:1",
            {"message": LACKS, "capability": "CAP_NET_BIND_SERVICE"},
            f"{LACKS}; {FIX}",
        ),
        (
            "239.1.1.9%lo:500,name=x to 127.0.0.1:1",
            {"message": KEEP, "capability": "CAP_NET_RAW", "alternative": "leave it out"},
            f"{KEEP}; {FIX}, or leave it out",
        ),
    ],
)
def test_a_right_that_the_daemon_lacks_is_not_one_of_the_client(
    supervisor: FakeSupervisor,
    capsys: pytest.CaptureFixture[str],
    rule: str,
    refusal: dict[str, str],
    said: str,
) -> None:
    """The message names the rule, by its name or else its text, and what the daemon needs."""

    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        (spec,) = request["add"]
        return {"error": {"kind": "rights", "rule": spec["id"], **refusal}}

    supervisor.workers[0].script["prepare"] = refuse
    assert main(["rule", "add", rule, "--socket", str(supervisor.path)]) == 1
    title = "x" if "name=x" in rule else rule
    assert capsys.readouterr().err == f"mcr: rule {title}: {said}\n"


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("rights", mcr.RightsError, 1),
        ("interface", mcr.InterfaceError, 2),
        ("engine", mcr.EngineError, 1),
        ("rule", mcr.RuleError, 2),
        ("limit", mcr.DaemonError, 1),
    ],
)
def test_a_refused_rule_is_named(
    kind: str,
    error: type[mcr.McrError],
    code: int,
    supervisor: FakeSupervisor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever the reason; clients do not know the id of a rule that was not added."""

    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        (spec,) = request["add"]
        return {"error": {"kind": kind, "rule": spec["id"], "message": "no"}}

    supervisor.workers[0].script["prepare"] = refuse
    rule = "239.1.1.9%lo:500 to 127.0.0.1:1"
    with mcr.Client(supervisor.path) as client, pytest.raises(error, match=f"^rule {rule}: no$"):
        client.add_rule(rule)
    assert main(["rule", "add", rule, "--socket", str(supervisor.path)]) == code
    assert capsys.readouterr().err == f"mcr: rule {rule}: no\n"

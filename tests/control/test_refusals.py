"""What a client hears of a change that workers refuse."""

from typing import Any, cast

import pytest
from tests.support.fake_supervisor import FakeSupervisor

from mcr.cli import main
from mcr.daemon.control.workers.messages import Failure
from mcr.daemon.control.workers.refusal import error_from

LACKS = "CAP_NET_BIND_SERVICE is missing: port 500 needs it"
KEEP = "CAP_NET_RAW is missing: (sport=keep) needs it; run as root, or leave it out"
FIX = "run the daemon as root or grant it the capability"


@pytest.mark.parametrize(
    ("rule", "refusal", "said"),
    [
        ("239.1.1.9%lo:500 to 127.0.0.1:1", LACKS, f"{LACKS}; {FIX}"),
        ("239.1.1.9%lo:500,name=x to 127.0.0.1:1", KEEP, KEEP.replace("run as root", FIX)),
    ],
)
def test_a_right_that_the_daemon_lacks_is_not_one_of_the_client(
    supervisor: FakeSupervisor,
    capsys: pytest.CaptureFixture[str],
    rule: str,
    refusal: str,
    said: str,
) -> None:
    """The message names the rule, by its name or else its text, and what the daemon needs."""

    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        (spec,) = request["add"]
        return {"error": {"kind": "rights", "rule": spec["id"], "message": refusal}}

    supervisor.workers[0].script["prepare"] = refuse
    assert main(["rule", "add", rule, "--socket", str(supervisor.path)]) == 1
    title = "x" if "name=x" in rule else rule
    assert capsys.readouterr().err == f"mcr: rule {title}: {said}\n"


@pytest.mark.parametrize(
    ("kind", "message"),
    [("rights", "the packet sockets that were kept are used up"), ("interface", "CAP_X: no")],
)
def test_other_refusals_stay_as_they_are(kind: str, message: str) -> None:
    """Those that a right would not help."""
    failure = {"kind": kind, "rule": None, "message": message}
    assert str(error_from(cast(Failure, failure))) == message

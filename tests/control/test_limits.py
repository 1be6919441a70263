"""Limits of one request: at each a clear error, and nothing else is harmed."""

from typing import Any

import pytest
from tests.support.fake_supervisor import FakeSupervisor
from tests.support.raw_client import RawClient

from mcr.daemon.control import limits
from mcr.protocol.constants import EXPLAINED_DATAGRAMS

RULE = "239.1.1.1%lo:5001,name=feed to 239.2.0.1%lo:6001"
MANY = limits.REQUEST_RULES + 1
OUTPUTS = ["192.0.2.1:7000"] * (limits.EDIT_OUTPUTS + 1)
DATAGRAM = {"interface": "lo", "group": "239.1.1.1", "port": 5001}


@pytest.mark.parametrize(
    ("method", "params", "field", "most"),
    [
        ("rules.add", {"rules": ["x"] * MANY}, "rules", limits.REQUEST_RULES),
        ("rules.replace", {"rules": ["x"] * MANY}, "rules", limits.REQUEST_RULES),
        ("rules.remove", {"rules": ["x"] * MANY}, "rules", limits.REQUEST_RULES),
        ("rules.edit", {"rule": "feed", "add_outputs": OUTPUTS}, "add_outputs", 1000),
        ("explain", {"datagrams": [DATAGRAM] * 257}, "datagrams", EXPLAINED_DATAGRAMS),
    ],
)
def test_a_request_above_a_limit_is_refused(
    client: RawClient,
    supervisor: FakeSupervisor,
    method: str,
    params: dict[str, Any],
    field: str,
    most: int,
) -> None:
    """The error names the field and the limit; rules, workers and the connection stay."""
    client.call("rules.add", rules=[RULE])
    error = client.error(method, **params)
    assert f"{field}: must not be longer than {most}" in error["message"]
    assert client.call("ping")["revision"] == 1
    assert {worker.revision for worker in supervisor.workers.values()} == {1}

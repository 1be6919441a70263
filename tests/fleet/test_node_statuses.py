"""The last status of each node, from what servers deliver, without servers."""

from dataclasses import replace
from typing import cast

import pytest
from nats.aio.msg import Msg

from mcr.fleet.nats_connection import NatsConnection
from mcr.fleet.node_statuses import NodeStatuses
from mcr.fleet.status import NodeStatus
from mcr.json_codec import encode

STATUS = NodeStatus("ams1", {}, "applied", {}, (), 1, 1, None, 1_800_000_000.0)


class FakeConnection:
    """Subscriptions, to which a test delivers."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, object] = {}


class FakeMessage:
    """A message of the status bucket."""

    subject = "$KV.mcr-status.ams1"

    def __init__(self, status: NodeStatus) -> None:
        self.data = encode(status)


@pytest.mark.parametrize(
    ("step_s", "is_taken"), [(10.0, True), (0.0, False), (-10.0, False), (-3600.0, True)]
)
def test_a_late_status_is_ignored_and_a_clock_may_be_set_back(
    step_s: float, is_taken: bool
) -> None:
    """Else a node whose clock was ahead would be silent until that time has come."""
    connection = FakeConnection()
    statuses = NodeStatuses(cast(NatsConnection, connection))
    (receive,) = connection.subscriptions.values()
    for each in (STATUS, replace(STATUS, at=STATUS.at + step_s, rules=2)):
        assert callable(receive)
        receive(cast(Msg, FakeMessage(each)))
    found = statuses.of("ams1")
    assert found is not None
    assert (found.rules == 2) == is_taken

"""A compromised control process: whatever it sends to a worker, the worker keeps relaying."""

import contextlib
import json
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.deadline import wait_until
from tests.support.worker_process import Json, WorkerClient, WorkerProcess, WorkerResources, specs

from .checks import assert_balanced
from .lab import Lab
from .traffic import PacedFlow

RULE = "239.1.94.1%in0:5001 to 239.2.94.1%out0:6001"
SPEC = "239.1.94.2%in0:5002 to 239.2.94.2%out0:6002"
RATE_PPS = 2000

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
# Without those by which control may well end the flow: stop, and the word on an open change.
REQUESTS = st.fixed_dictionaries(
    {
        "id": st.integers(0, 2**64) | VALUES,
        "do": st.sampled_from(["hello", "prepare", "abort", "log"]) | VALUES,
    },
    optional={
        "revision": st.integers(0, 2**64) | VALUES,
        "whole": st.booleans() | VALUES,
        "remove": st.lists(st.text(max_size=12), max_size=3) | VALUES,
        "add": st.lists(VALUES, max_size=3) | VALUES,
        "level": st.sampled_from(["debug", "error"]) | VALUES,
    },
)


def frame(body: bytes) -> bytes:
    """A message with its length prefix."""
    return len(body).to_bytes(4, "little") + body


def twisted(spec: Json) -> st.SearchStrategy[Json]:
    """A rule as control sends it, with one invalid field."""
    outputs = [f"outputs.0.{name}" for name in spec["outputs"][0]]
    names = [*(f"input.{name}" for name in spec["input"]), *outputs, "id", "enabled", "outputs"]

    def twist(name: str, value: object) -> Json:
        made: Json = json.loads(json.dumps(spec))
        at: object = made
        *way, last = name.split(".")
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]  # type: ignore[index]
        at[last] = value  # type: ignore[index]
        return made

    numbers = st.sampled_from([-1, 0, 7, 256, 65536, 2**31, 2**32, 2**63, 2**64])
    addresses = st.sampled_from(["", "0.0.0.0", "::", "239.1.94.2", "ff02::1", "x" * 5000])
    return st.builds(twist, st.sampled_from(names), numbers | addresses | VALUES)


def words(spec: Json) -> st.SearchStrategy[bytes]:
    """Any bytes, any frames, any requests, and changes that are nearly right."""
    change = st.builds(
        lambda wrong: {"id": 1, "do": "prepare", "revision": 9, "whole": False, "remove": [],
                       "add": [wrong]},
        twisted(spec),
    )  # fmt: skip
    said = REQUESTS | VALUES | change
    return st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(frame),
        said.map(lambda value: frame(json.dumps(value).encode())),
        change.map(lambda value: frame(json.dumps(value).encode())),
    )


@pytest.fixture(params=["packet", "udp"])
def resources(request: pytest.FixtureRequest) -> Iterator[WorkerResources]:
    """What outlives a worker, for either ingress."""
    with WorkerResources(request.param) as resources:
        yield resources


def open_descriptors(worker: WorkerProcess) -> int:
    """The number of open descriptors of the worker."""
    return len(os.listdir(f"/proc/{worker.process.pid}/fd"))


def test_any_requests_leave_the_flow_intact(lab: Lab, resources: WorkerResources) -> None:
    """A hundred invalid conversations; then a valid one finds the worker unchanged."""
    with lab.relay:
        # Room for what a sender on a busy machine sends at once to catch up.
        worker = WorkerProcess(resources, buffer_bytes=32 << 20)
        rule, other = specs(RULE, SPEC)
    with (
        worker,
        lab.receive("239.2.94.1", 6001) as receiver,
        lab.sender("239.1.94.1", 5001) as sender,
    ):
        worker.connect().change(1, [rule], whole=True)
        before = open_descriptors(worker)
        with PacedFlow(sender, RATE_PPS) as flow:

            @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
            @given(st.lists(words(other), min_size=1, max_size=5))
            def converse(said: list[bytes]) -> None:
                control = worker.connect()
                with contextlib.suppress(OSError):
                    control.socket.sendall(b"".join(said))
                control.socket.close()

            converse()
            flow.advance(RATE_PPS // 10)
        control = worker.connect()
        wait_until(lambda: matched(control) == len(flow.sent))
        receiver.expect(flow.sent)
        hello = control.ask("hello")
        assert (hello["revision"], hello["rules"]) == (1, [rule["id"]])
        wait_until(lambda: open_descriptors(worker) <= before)


def matched(control: WorkerClient) -> int:
    """What the rule has counted; the counters balance."""
    counters = control.counters("udp")
    assert_balanced(counters)
    assert counters["interfaces"][0]["kernel_dropped_frames"] == 0, counters
    count: int = counters["rules"][0]["matched"]
    return count

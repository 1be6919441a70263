"""A worker process in the relay's namespace: its rules and its counters."""

import contextlib

from tests.support.deadline import wait_until
from tests.support.worker_process import Json, WorkerClient, WorkerProcess, WorkerResources, specs

from .checks import assert_balanced
from .lab import Lab

RULE = "239.1.60.1%in0:5001,name=one to 239.2.60.1%out0:6001"
OTHER = "239.1.60.2%in0:5001,name=two to 239.2.60.2%out1:6001"


def resolved(lab: Lab, *rules: str, enabled: bool = True) -> list[Json]:
    """Rules, resolved in the relay's namespace."""
    with lab.relay:
        return specs(*rules, enabled=enabled)


def report(control: WorkerClient) -> Json:
    """The counters, checked for balance."""
    counters = control.counters("udp")
    assert_balanced(counters)
    return counters


def sent(control: WorkerClient, rule: int = 0) -> int:
    """The copies that the rule's first output sent."""
    count: int = report(control)["rules"][rule]["outputs"][0]["sent"]
    return count


def wait_for_sent(control: WorkerClient, count: int) -> None:
    """Wait until the first rule's first output has sent this many copies."""
    wait_until(lambda: sent(control) == count)


def start(lab: Lab, resources: WorkerResources, stack: contextlib.ExitStack) -> WorkerProcess:
    """A worker that is closed with the stack."""
    with lab.relay:
        return stack.enter_context(WorkerProcess(resources))

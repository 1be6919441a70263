"""A supervisor that takes over as a new version would that differs, fails or dies.

`python -m tests.topology.new_version MODE SETTINGS` runs as `mcr serve --takeover` does, but for
what the mode changes.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.support.deadline import wait_until
from tests.support.processes import is_running

from mcr import _native
from mcr.daemon import supervisor
from mcr.daemon.supervisor import DaemonSettings, NativeTools, native, supervise
from mcr.daemon.supervisor.handover import inheritance
from mcr.daemon.supervisor.handover.form import Kind, Needs
from mcr.daemon.supervisor.handover.link import SupervisorLink
from mcr.daemon.supervisor.handover.successor import Successor
from mcr.errors import McrError

STEPS = ("offer", "standby", "go", "commit")
DIES = [sys.executable, "-c", "raise SystemExit(3)"]
OTHER_LAYOUT = 12345


def bad_page() -> int:
    """A page that no worker can use, which shows only when it may have its sockets."""
    page = _native.make_page()
    os.pwrite(page, bytes(8), 0)
    return page


def changed_tools(mode: str) -> NativeTools:
    """The native functions of the version that the mode describes."""
    tools = native.native_tools()
    layout = replace(tools, page_layout=lambda: OTHER_LAYOUT)
    made: dict[str, NativeTools] = {
        "worker-dies": replace(tools, worker_command=lambda *_: DIES),
        "control-dies": replace(tools, control_command=lambda *_: DIES),
        "worker-dies-late": replace(
            layout, make_page=bad_page, import_counters=lambda _page, _counts: None
        ),
        "other-records": replace(tools, lease_form=99),
        "other-layout": layout,
    }
    return made.get(mode, tools)


def act_at(step: str, act: Callable[[int], None]) -> None:
    """Act when a step of the takeover is reached; the argument is the old supervisor's id."""
    old: list[int] = []
    request, say, go = inheritance.request_inheritance, SupervisorLink.say, Successor._go
    commit = Successor.commit

    def requested(path: Path, needs: Needs) -> inheritance.Inheritance:
        found = request(path, needs)
        old.append(found.pid)
        if step == "offer":
            act(found.pid)
        return found

    def said(self: SupervisorLink, kind: Kind, number: int = 0, value: int = 0) -> None:
        if step == "standby" and kind is Kind.STANDBY:
            act(old[0])
        say(self, kind, number, value)

    def gone(self: Successor) -> None:
        if step == "go":
            act(old[0])
        go(self)

    def committed(self: Successor) -> None:
        if step == "commit":
            act(old[0])
        commit(self)

    vars(supervisor)["request_inheritance"] = requested
    SupervisorLink.say = said  # type: ignore[method-assign]
    Successor._go = gone  # type: ignore[method-assign]
    Successor.commit = committed  # type: ignore[method-assign]


def kill_old(pid: int) -> None:
    """Kill the old supervisor, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))


def main() -> int:
    """Take over."""
    mode, settings = sys.argv[1:]
    what, _, step = mode.partition("@")
    if what == "dies":
        act_at(step, lambda _pid: os.kill(os.getpid(), signal.SIGKILL))
    elif what == "stops":
        act_at(step, lambda _pid: os.kill(os.getpid(), signal.SIGSTOP))
    elif what == "kills":
        act_at(step, kill_old)
    elif what == "ends":
        act_at(step, lambda pid: os.kill(pid, signal.SIGTERM))
    try:
        return 0 if supervise(DaemonSettings.from_text(settings), changed_tools(mode)) else 1
    except McrError as error:
        print(f"mcr: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

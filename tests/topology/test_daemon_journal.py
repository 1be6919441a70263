"""The log of a real daemon whose standard error the journal reads, with a socket in its place."""

import os
import signal
import socket
import time
from pathlib import Path

from tests.test_journal import read_entry

from .checks import PROCESS_S
from .daemons import serving
from .lab import Lab

RULE = "239.1.91.1%in0:5001,name=a to 239.2.91.1%out0:6001"
IN_JOURNAL = """
mount -t tmpfs none /run/systemd && mkdir /run/systemd/journal &&
mount --bind "$0" /run/systemd/journal &&
export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) && exec "$@"
"""


def test_processes_without_rights_send_entries(lab: Lab, tmp_path: Path) -> None:
    """Supervisor and control, with their own process ids; nothing is left for standard error."""
    tmp_path.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        (tmp_path / "socket").chmod(0o666)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        before = ("unshare", "-m", "sh", "-c", IN_JOURNAL, str(tmp_path))
        entries: list[dict[str, str]] = []
        with serving(lab.relay, "--workers", "2", before=before, awaits_ready=False) as daemon:

            def wait_for(text: str) -> dict[str, str]:
                deadline_s = time.monotonic() + PROCESS_S
                while True:
                    for each in entries:
                        if text in each["MESSAGE"]:
                            return each
                    receiver.settimeout(max(0.1, deadline_s - time.monotonic()))
                    entries.append(read_entry(receiver))

            assert wait_for("ready: ")["PRIORITY"] == "6"
            with daemon.client() as client:
                added = client.add_rule(RULE).added[0]
                wait_for("rules: revision 1")
                lab.relay.set_up("out0", up=False)
                parked = wait_for("output 1 of rule a is parked")
                assert parked["MCR_RULE"] == added.id
                assert (parked["MCR_FACILITY"], parked["PRIORITY"]) == ("egress", "4")
                (first, _) = client.workers()
                assert first.pid is not None
                os.kill(first.pid, signal.SIGKILL)
            assert wait_for("killed by SIGKILL")["MCR_FACILITY"] == "worker"
            os.kill(daemon.control, signal.SIGKILL)
            assert wait_for("supervisor: control")["MCR_FACILITY"] == "supervisor"
            wait_for("control is serving again")
            lab.relay.set_up("out0", up=True)
            assert daemon.end() == 0
            assert daemon.read_log() == ""
        assert {each["SYSLOG_IDENTIFIER"] for each in entries} == {"mcr"}

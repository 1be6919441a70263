"""The state file of a daemon that is killed at any moment: complete, and one of the last two."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import mcr

from .topology.daemons import serving

KILLS = 200
RULES = [f"239.1.90.{number}%lo:5090,name=r{number} to 127.0.0.1:9" for number in range(1, 60)]
LOOP = f"""
import json, os, random, select, signal, sys, time
from pathlib import Path
from mcr.daemon.sealed_memfd import sealed_memfd
from mcr.daemon.supervisor.disk_thread import DiskThread
from mcr.daemon.supervisor.snapshot_store import SnapshotStore

def content(number):
    return json.dumps({{"revision": number, "rules": "x" * (number * 7919 % 300_000)}}).encode()

def revision(path):
    found = path.read_bytes()
    number = json.loads(found)["revision"]
    assert found == content(number)
    return number

def keep_rules(path, first, answers):
    disk = DiskThread()
    store = SnapshotStore(disk, path)
    number = first
    while True:
        kept = []
        store.keep(sealed_memfd(content(number), "rules"), kept.append)
        while not kept:
            select.select([disk.descriptor], [], [])
            disk.run_callbacks()
        assert kept == [None]
        os.write(answers, b"%d\\n" % number)
        number += 1

path = Path(sys.argv[1]) / "rules"
latest = 0
for _ in range({KILLS}):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        keep_rules(path, latest + 1, writer)
    os.close(writer)
    answers = os.read(reader, 100)
    time.sleep(random.uniform(0, 0.01))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 65536):
        answers += more
    os.close(reader)
    answered = int(answers.split()[-1])
    latest = revision(path)
    assert latest in (answered, answered + 1), (latest, answered)
    assert set(os.listdir(path.parent)) <= {{"rules", ".rules.new"}}
print("changes", latest)
"""


def test_the_state_file_is_one_of_the_last_two(tmp_path: Path) -> None:
    """What was answered is in it, or one change more; what a kill has left does not pile up."""
    run = [sys.executable, "-I", "-c", LOOP, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1]) >= KILLS


def test_a_daemon_that_is_killed_starts_with_its_last_rules(tmp_path: Path) -> None:
    """Again and again, in the middle of changes: those that were answered, or one more."""
    state = ("--state", str(tmp_path / "rules"))
    revision, names = 0, set[str]()
    for _ in range(5):
        with serving(None, "--ingress", "udp", *state) as daemon, daemon.client() as client:
            found = client.rules()
            assert found.revision in (revision, revision + 1)
            assert len(names ^ {str(rule.name) for rule in found}) == found.revision - revision
            revision, names = found.revision, {str(rule.name) for rule in found}
            delay_s = random.uniform(0.02, 0.2)
            kill = threading.Timer(delay_s, os.kill, (daemon.supervisor, signal.SIGKILL))
            kill.start()
            with contextlib.suppress(mcr.McrError):
                while True:
                    rule = random.choice(RULES)
                    name = str(mcr.Rule.parse(rule).name)
                    change = client.remove_rule if name in names else client.add_rule
                    revision = change(name if name in names else rule).revision
                    names ^= {name}
            kill.join()

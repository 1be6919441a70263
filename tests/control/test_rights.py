"""The rights of the control process: it serves clients, and can do nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.deadline import wait_until
from tests.support.fake_supervisor import FakeSupervisor, control_process
from tests.support.raw_client import RawClient

from mcr.daemon.control.api.method_types import METHOD_TYPES

NOBODY = 65534
PARAMS: dict[str, dict[str, object]] = {
    "hello": {"protocol": 1},
    "rules.add": {"rules": ["239.1.1.1%lo:5001,name=a to localhost:7001"]},
    "rules.get": {"rule": "a"},
    "rules.replace": {"rules": [{"input": {"address": "239.1.1.2"}, "outputs": []}]},
    "rules.apply": {"rules": ["239.1.1.2%lo:5001 to localhost:7002"], "dry_run": True},
    "rules.remove": {"rules": ["a"]},
    "rules.edit": {"rule": "a", "add_outputs": ["localhost:7002"]},
    "rules.enable": {"rules": ["a"]},
    "rules.disable": {"rules": ["a"]},
    "logs.set": {"level": "debug"},
    "events.subscribe": {"after": 0},
    "explain": {"datagrams": [{"interface": "lo", "group": "239.1.1.1", "port": 5001}]},
}
WRONG = {"rules.replace", "config.reload"}


@pytest.fixture(params=[None, NOBODY])
def confined(request: pytest.FixtureRequest, directory: Path) -> Iterator[FakeSupervisor]:
    """As the same user, and as nobody, who may not be able to read Python's own files."""
    if request.param is not None and os.geteuid() != 0:
        pytest.skip("becomes another user: needs root")
    with control_process(directory, user=request.param) as supervisor:
        yield supervisor


def test_every_method_works_without_rights(confined: FakeSupervisor) -> None:
    """No method loads a module or opens a file that the sandbox hides."""
    order = ["rules.add", *(name for name in METHOD_TYPES if name not in {"rules.add", "shutdown"})]
    with RawClient(confined.path) as client:
        for name in sorted(order, key=lambda name: name == "rules.remove"):
            answer = client.ask(name, **PARAMS.get(name, {}))
            assert ("error" in answer) == (name in WRONG), answer
            assert answer.get("error", {}).get("code") != -32603
    with RawClient(confined.path) as client:
        client.send(b"nonsense\n" + b'{"jsonrpc":"2.0","method":"ping","id":1e5}\n')
        assert "error" in client.line()
        assert "error" in client.line()
    config = 'rules = [ { rule = "239.1.1.9%lo:5001,name=nine to localhost:7009" } ]'
    confined.configure(config.encode())
    confined.say({"kind": "hosts"})
    with RawClient(confined.path) as client:
        wait_until(
            lambda: "result" in client.ask("rules.get", rule="nine"), what="the configuration"
        )
        assert client.call("stats")["rules"][0]["outputs"][0]["address"] in {"127.0.0.1", "::1"}
    confined.say({"kind": "drain"})
    assert confined.process.wait(10) == 0
    assert "Traceback" not in confined.said()


def test_the_kernel_shows_no_rights(confined: FakeSupervisor) -> None:
    """In /proc/PID/status."""
    status = Path(f"/proc/{confined.process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    user = os.getuid() if confined.user is None else confined.user
    assert fields["Uid"].split() == [str(user)] * 4
    assert fields["Groups"].split() == [] or confined.user is None


def test_invalid_arguments_are_one_error(tmp_path: Path) -> None:
    """Only the supervisor should start it."""
    for arguments in ([], ["{}"], [json.dumps({"supervisor": 1})]):
        run = subprocess.run(
            [sys.executable, "-I", "-m", "mcr.daemon.control", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert run.returncode == 2
        assert run.stderr == "mcr.daemon.control is started by 'mcr serve' only\n"

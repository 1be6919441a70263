"""The demo behind `make fleet-demo`: three NATS servers, five relays, one stream through a tree.

Each relay is a network namespace with a daemon and an agent; the root has the stream, the others
deliver it to a receiver of their own. Meanwhile a server and a relay are killed. Needs root,
nats-server and the extra `fleet`.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import mcr
from namespaces import LocalHost, star

MCR = str(Path(sys.executable).parent / "mcr")
SERVERS, RELAYS, RATE_PPS = 3, 5, 2000
SOURCE, DELIVER = "239.88.1.1%{}:5001", "127.0.0.1:7000"
URLS = ",".join(f"nats://10.88.0.1:{4222 + number}" for number in range(SERVERS))
READY_S = 30.0


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each part lasts")
    seconds = parser.parse_args().seconds
    program = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
    if os.geteuid() != 0 or program is None:
        print("needs root and nats-server (apt-get install nats-server)", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="mcr-fleet") as folder,
        star(RELAYS) as (core, hosts),
        contextlib.ExitStack() as stack,
    ):
        directory = Path(folder)
        directory.chmod(0o755)
        servers = [
            stack.enter_context(started(core, server(program, directory, number)))
            for number in range(SERVERS)
        ]
        (directory / "tree.toml").write_text(tree(hosts))
        until(lambda: fleet(core, "create", "--replicas", "3") == 0)
        relays = [stack.enter_context(relay(host, directory, f"r{n}")) for n, host in names(hosts)]
        show(core, directory, (servers[0], relays[1]), hosts, seconds)
    return 0


def show(
    core: LocalHost,
    directory: Path,
    killed: tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]"],
    hosts: Sequence[LocalHost],
    seconds: float,
) -> None:
    """Relay by a tree; kill a server, then the relay r2; show what each receiver has lost."""
    until(lambda: reported(core) == RELAYS)
    change(core, directory)
    with contextlib.ExitStack() as stack:
        receivers = {}
        for number, host in names(hosts)[1:]:
            with host.entered():
                receivers[f"r{number}"] = stack.enter_context(mcr.Receiver(DELIVER))
        with core.entered():
            sender = mcr.Sender(SOURCE.format("core0"), rate_pps=RATE_PPS)
        stack.enter_context(sender)
        for receiver in receivers.values():
            threading.Thread(target=receiver.receive, daemon=True).start()
        sending = threading.Thread(target=sender.send)
        sending.start()
        try:
            time.sleep(seconds)
            tell("all relay", receivers)
            killed[0].kill()
            time.sleep(seconds)
            tell("a server was killed", receivers)
            killed[1].kill()
            time.sleep(seconds)
            tell("the relay r2 was killed", receivers)
            change(core, directory, without="r2")
            time.sleep(seconds)
            tell("the tree was planned again without r2", receivers)
        finally:
            sender.stop()
            sending.join()


def tell(title: str, receivers: dict[str, mcr.Receiver]) -> None:
    """Print what the receivers have."""
    print(f"\n{title}")
    for name, receiver in receivers.items():
        report = receiver.report()
        print(f"  {name}: received {report.received}, lost {report.lost}", flush=True)


def change(core: LocalHost, directory: Path, *, without: str | None = None) -> None:
    """Plan the tree and apply it, without a relay that is dead."""
    left_out = [] if without is None else ["--without", without]
    absent = [] if without is None else ["--absent", without]
    out = str(directory / "fleet")
    subprocess.run([MCR, "fleet", "tree", str(directory / "tree.toml"), out, *left_out], check=True)
    fleet(core, "apply", out, "--yes", *absent, quiet=False)


def fleet(core: LocalHost, *words: str, quiet: bool = True) -> int:
    """Run a command at the servers; return its exit code."""
    output = subprocess.DEVNULL if quiet else None
    command = in_namespace(core, MCR, "fleet", *words, "--nats", URLS)
    return subprocess.run(command, check=False, stdout=output, stderr=output).returncode


def reported(core: LocalHost) -> int:
    """How many nodes report."""
    command = in_namespace(core, MCR, "fleet", "nodes", "--json", "--nats", URLS)
    run = subprocess.run(command, check=False, capture_output=True)
    return len(json.loads(run.stdout)) if run.returncode == 0 else 0


def names(hosts: Sequence[LocalHost]) -> list[tuple[int, LocalHost]]:
    """Each host with its number."""
    return [*enumerate(hosts, 1)]


def tree(hosts: Sequence[LocalHost]) -> str:
    """The file of the tree: r1 sends to r2 and r3, these to the others."""
    lines = [
        f'source = "{SOURCE.format("eth0")}"',
        f'deliver = "{DELIVER}"',
        'port = 5100\nfan_out = 2\nroots = ["r1"]',
    ]
    for number, _ in names(hosts):
        lines += [f"[nodes.r{number}]", f'address = "10.88.0.{number + 1}%eth0"']
    return "\n".join((*lines, ""))


def server(program: str, directory: Path, number: int) -> list[str]:
    """The command of a server, whose configuration is written."""
    routes = ", ".join(f"nats://10.88.0.1:{6222 + each}" for each in range(SERVERS))
    configuration = directory / f"{number}.conf"
    configuration.write_text(
        f"server_name: s{number}\nlisten: 10.88.0.1:{4222 + number}\n"
        f'jetstream {{ store_dir: "{directory}/s{number}" }}\n'
        f"cluster {{ name: mcr, listen: 10.88.0.1:{6222 + number}, routes: [{routes}] }}\n"
    )
    return [program, "-c", str(configuration), "-l", str(directory / f"s{number}.log")]


@contextlib.contextmanager
def relay(host: LocalHost, directory: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A daemon and its agent; a kill of the daemon's process ends its workers, too."""
    socket = str(directory / f"{name}.sock")
    serve = [MCR, "serve", "--socket", socket, "--ingress", "udp"]
    agent = [MCR, "agent", "--nats", URLS, "--node", name, "--socket", socket]
    with started(host, serve) as daemon:
        until(lambda: Path(socket).exists())
        with started(host, agent):
            yield daemon


@contextlib.contextmanager
def started(host: LocalHost, command: Sequence[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a namespace, ended at the end of the block."""
    process = subprocess.Popen(
        in_namespace(host, *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def in_namespace(host: LocalHost, *command: str) -> list[str]:
    """The command, run there; the process id is that of the command."""
    return ["nsenter", f"--net=/run/netns/{host.name}", *command]


def until(look: Callable[[], bool], within_s: float = READY_S) -> None:
    """Wait until a condition holds."""
    ends_s = time.monotonic() + within_s
    while not look():
        if time.monotonic() > ends_s:
            raise TimeoutError("the fleet did not become ready")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())

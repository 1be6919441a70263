"""Real NATS servers with JetStream on loopback, which tests kill and restart."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.topology.namespaces import Namespace

from .deadline import wait_until

_READY_S = 30.0
_SEARCHED = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class ServerHost:
    """Where servers run: in a namespace, or on this loopback."""

    namespace: Namespace | None = None
    address: str = "127.0.0.1"

    def command(self, *command: str) -> list[str]:
        """A command there, whose process keeps its id."""
        return [*command] if self.namespace is None else self.namespace.command(*command)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Switch the calling thread there, to open sockets."""
        with self.namespace or contextlib.nullcontext():
            yield


class NatsCluster:
    """Servers that form a cluster, each with its own folder."""

    def __init__(
        self, directory: Path, size: int, extra: str = "", host: ServerHost | None = None
    ) -> None:
        """Write their configurations; start none.

        Args:
            directory: for configurations, stores and logs.
            size: the number of servers.
            extra: further lines for each configuration, such as users and their permissions.
            host: where they run; by default on this loopback.
        """
        self._host = host or ServerHost()
        program = shutil.which("nats-server", path=_SEARCHED)
        assert program is not None, "nats-server is missing: apt-get install nats-server"
        self._program, self._directory, self.size = program, directory, size
        self._ports = _free_ports(3 * size)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(size):
            self._file(number).write_text(self._configuration(number, extra))

    @property
    def url(self) -> str:
        """The URLs of all servers, as `--nats` has them."""
        return ",".join(self.urls)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URL of each server."""
        address = self._host.address
        return tuple(f"nats://{address}:{self.port(number)}" for number in range(self.size))

    @property
    def configurations(self) -> tuple[Path, ...]:
        """The configuration file of each server."""
        return tuple(map(self._file, range(self.size)))

    def port(self, number: int) -> int:
        """The port for clients of a server."""
        return self._ports[number]

    def pid(self, number: int) -> int:
        """The process id of a server that runs."""
        return self._processes[number].pid

    def start(self, *numbers: int) -> None:
        """Start servers, by default all."""
        for number in numbers or range(self.size):
            with (self._directory / f"{number}.out").open("ab") as log:
                command = self._host.command(self._program, "-c", str(self._file(number)))
                self._processes[number] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, *numbers: int) -> None:
        """End servers by SIGKILL, by default all, and wait for their ends."""
        for number in numbers or tuple(self._processes):
            process = self._processes.pop(number)
            process.send_signal(signal.SIGKILL)
            process.wait()

    def wait_ready(self) -> None:
        """Wait until each server that runs reports that it and its streams are up to date."""
        wait_until(lambda: all(map(self._is_healthy, self._processes)), _READY_S, what=self.log())

    def leader(self, bucket: str) -> int:
        """The number of the server that leads the stream of a bucket."""

        def look() -> str:
            answer = self._get(next(iter(self._processes)), "jsz?streams=true&accounts=true")
            for account in json.loads(answer).get("account_details", []):
                for stream in account.get("stream_detail", []):
                    if stream["name"] == f"KV_{bucket}":
                        return str(stream["cluster"].get("leader") or "")
            return ""

        return int(wait_until(look, _READY_S, what=f"a leader of {bucket}").removeprefix("s"))

    def requests(self) -> int:
        """How many requests about streams and consumers the servers have answered so far."""
        answers = (json.loads(self._get(each, "jsz")) for each in self._processes)
        return sum(each["api"]["total"] for each in answers)

    def log(self) -> str:
        """What the servers have said."""
        files = sorted(self._directory.glob("*.out"))
        return "".join(path.read_text()[-2000:] for path in files)

    def _is_healthy(self, number: int) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._get(number, "healthz"))
        return False

    def _get(self, number: int, path: str) -> bytes:
        port = self._ports[2 * self.size + number]
        url = f"http://{self._host.address}:{port}/{path}"
        with self._host.entered(), urllib.request.urlopen(url, timeout=2) as answer:
            content: bytes = answer.read()
            return content

    def _file(self, number: int) -> Path:
        return self._directory / f"{number}.conf"

    def _configuration(self, number: int, extra: str) -> str:
        size, ports, address = self.size, self._ports, self._host.address
        routes = ", ".join(f"nats://{address}:{ports[size + each]}" for each in range(size))
        lines = [
            f"server_name: s{number}",
            f"listen: {address}:{ports[number]}",
            f"http: {address}:{ports[2 * size + number]}",
            f'jetstream {{ store_dir: "{self._directory / str(number)}", max_mem: 64M,'
            " max_file: 256M }",
        ]
        if size > 1:
            listen = f"{address}:{ports[size + number]}"
            lines += [f"cluster {{ name: mcr, listen: {listen}, routes: [{routes}] }}"]
        return "\n".join((*lines, extra, ""))


@contextlib.contextmanager
def nats_cluster(
    size: int = 3, extra: str = "", host: ServerHost | None = None
) -> Iterator[NatsCluster]:
    """Run servers that are ready; nothing of them stays."""
    with tempfile.TemporaryDirectory(prefix="mcr-nats") as directory:
        cluster = NatsCluster(Path(directory), size, extra, host)
        try:
            cluster.start()
            cluster.wait_ready()
            yield cluster
        finally:
            cluster.kill()


def _free_ports(count: int) -> list[int]:
    """Ports that no process uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]

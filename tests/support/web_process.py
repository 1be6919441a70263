"""`mcr web` as a process of its own, and requests to it."""

import contextlib
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.support.deadline import wait_until

MCR = str(Path(sys.executable).parent / "mcr")
_TIMEOUT_S = 20.0
Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass
class Answer:
    """An answer to a request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 -- JSON
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class WebProcess:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    address: str = "127.0.0.1"

    def request(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> Answer:
        """Make a request; a header `user_agent` is sent as User-Agent."""
        given = {name.replace("_", "-").title(): value for name, value in headers.items()}
        with contextlib.closing(
            http.client.HTTPConnection(self.address, self.port, timeout=_TIMEOUT_S)
        ) as connection:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def json(self, path: str, status: int = 200) -> Any:  # noqa: ANN401 -- JSON
        """The JSON at a path, which is answered with this status."""
        answer = self.request(path)
        assert answer.status == status, answer.body
        return answer.json

    def families(self) -> list[Metric]:
        """The metrics, parsed."""
        return list(text_string_to_metric_families(self.request("/metrics").body.decode()))

    def samples(self) -> dict[Sample, float]:
        """The value of each sample by its name and labels; none occurs twice."""
        found: dict[Sample, float] = {}
        for family in self.families():
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in found, key
                found[key] = sample.value
        return found


@contextlib.contextmanager
def web_process(daemon_socket: Path, *arguments: str) -> Iterator[WebProcess]:
    """Run a server at any free port."""
    command = [MCR, "web", "--socket", str(daemon_socket), "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(r"ready: http://\[?([^\]]*)\]?:(\d+)/", line)
            assert found, (line, process.stderr.read() if process.stderr else "")
            yield WebProcess(process, int(found[2]), found[1])
        finally:
            process.terminate()
            try:
                process.wait(_TIMEOUT_S)
            finally:
                process.kill()


def value(samples: Mapping[Sample, float], metric: str, /, **labels: str) -> float:
    """The only sample of this name that has these labels."""
    (found,) = (
        number
        for (each, given), number in samples.items()
        if each == metric and labels.items() <= dict(given).items()
    )
    return found


def samples_with(
    web: WebProcess, number: float, metric: str, /, **labels: str
) -> dict[Sample, float]:
    """Wait until a sample with these labels has this value; return all samples then."""

    def look() -> dict[Sample, float] | None:
        samples = web.samples()
        found = any(
            name == metric and each == number and labels.items() <= dict(given).items()
            for (name, given), each in samples.items()
        )
        return samples if found else None

    samples = wait_until(look, what=f"{metric} {labels} of {number}")
    assert samples is not None
    return samples

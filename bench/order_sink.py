"""The sink that checks numbered datagrams: how many of each flow at each output, and their order.

Speaks with `peers/order_sink.c`, which runs in dst.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from subprocess import Popen

from .failure import BenchError


@dataclass(frozen=True, slots=True)
class Tally:
    """What the sink has counted since it was reset.

    Attributes:
        bytes: of payloads.
        late: copies that came after a later one of their flow, or twice.
        flows: frames by output and flow, both from 0; empty unless asked for.
    """

    frames: int
    bytes: int
    late: int
    flows: Mapping[tuple[int, int], int]


class OrderSink:
    """The sink's process."""

    def __init__(self, child: Popen[str]) -> None:
        """Wait until it is attached.

        Raises:
            BenchError: it ended instead; its reason is on standard error.
        """
        self._child = child
        if self._line() != "ready":
            raise BenchError("the sink did not start")

    def count(self) -> Tally:
        """Read the sums."""
        return self._ask("count")

    def count_flows(self) -> Tally:
        """Read the sums and the frames of each output and flow."""
        return self._ask("flows")

    def reset(self) -> None:
        """Count from zero, and expect the number 0 of every flow; no traffic meanwhile."""
        self._ask("reset")

    def _ask(self, question: str) -> Tally:
        if self._child.stdin is None:
            raise BenchError("the sink has no input")
        self._child.stdin.write(f"{question}\n")
        self._child.stdin.flush()
        found = json.loads(self._line())
        # The last number of a group is its flow from 1 (`Shape.flows_at`).
        flows = {(output, host - 1): frames for output, host, frames in found.get("flows", ())}
        return Tally(found["frames"], found["bytes"], found["late"], flows)

    def _line(self) -> str:
        line = self._child.stdout.readline() if self._child.stdout else ""
        if not line:
            raise BenchError("the sink ended")
        return line.rstrip("\n")


def check_order(tally: Tally, sent: list[int], outputs: int, *, whole: bool) -> None:
    """Check that every flow arrived in order, never twice and, if *whole*, without loss.

    Args:
        tally: with its flows.
        sent: datagrams of each flow.
        outputs: of each flow.
        whole: whether a missing copy is an error.

    Raises:
        BenchError: which flow, and what is wrong with it.
    """
    if tally.late:
        raise BenchError(f"{tally.late} of {tally.frames} copies out of order or twice")
    wanted = {(output, flow): n for output in range(outputs) for flow, n in enumerate(sent)}
    for (output, flow), frames in tally.flows.items():
        most = wanted.get((output, flow), 0)
        if frames > most:
            raise BenchError(f"{frames} copies of {most} datagrams (output {output}, flow {flow})")
    missing = sum(wanted.values()) - tally.frames
    if whole and missing:
        raise BenchError(f"{missing} of {sum(wanted.values())} copies missing without any load")

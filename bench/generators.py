"""The programs that make the traffic of a scenario, started in its namespaces."""

import json
from dataclasses import dataclass
from subprocess import Popen

from .failure import BenchError
from .native import Programs
from .scenarios import Feed, Kind, Scenario
from .topology import Mode, Topology

SOURCE = "10.77.0.1"  # of src at its tx0
FIRST = ("nice", "-n", "-20")


@dataclass(frozen=True, slots=True)
class Sent:
    """What a generator has sent: datagrams of each flow, and in how many seconds."""

    flows: list[int]
    seconds: float

    @property
    def rate_pps(self) -> float:
        """Datagrams a second."""
        return sum(self.flows) / self.seconds


def start_sender(
    programs: Programs, core: int, scenario: Scenario, topology: Topology, *options: str
) -> Popen[str]:
    """Start the generator that sends through a socket in src."""
    inputs = [flow.input for flow in scenario.shape.flows_at(0)]
    sizes = ["-s", str(scenario.size_bytes)]
    if scenario.numbered or scenario.least_bytes:
        sizes += ["-m", str(scenario.least_bytes or scenario.size_bytes)]
    if scenario.shape.merges:
        sizes += ["-p"]
    command = [programs.sender, *sizes, *options, "tx0", *inputs]
    if scenario.kind is Kind.SCALING:
        # It shares its core with a relay that takes two: what it is asked for comes first.
        command = [*FIRST, *command]
    return topology.spawn(topology.src, (core,), command)


def start_feed(
    programs: Programs, core: int, scenario: Scenario, topology: Topology, *options: str
) -> Popen[str]:
    """Start the scenario's own generator.

    Frames as from a wire are given to the stack at the relay's rx0 or, where that interface merges,
    go through src's tx0: only then the peer's NAPI merges them.
    """
    if scenario.feed is Feed.SOCKET:
        return start_sender(programs, core, scenario, topology, *options)
    if programs.bpf is None:
        raise BenchError("frames as from a wire need clang and libbpf")
    merges = scenario.mode is not Mode.SOFTWARE
    namespace = topology.src if merges else topology.relays[0]
    place = ["redirect", "tx0"] if merges else ["pass", "rx0"]
    flows = scenario.shape.flows_at(0)
    sizes = ["-s", str(scenario.size_bytes), "-m", str(scenario.least_bytes or scenario.size_bytes)]
    wire = programs.bpf.wire
    return topology.spawn(
        namespace,
        (core,),
        [wire, *sizes, *options, f"{wire}.o", *place, str(len(flows)), SOURCE, flows[0].input],
    )


def read_sent(generator: Popen[str]) -> Sent:
    """Wait for a generator's end and read what it has sent.

    Raises:
        BenchError: it failed; its reason is on standard error.
    """
    text = generator.communicate()[0]
    if generator.returncode != 0:
        raise BenchError(f"the generator ended with code {generator.returncode}")
    found = json.loads(text)
    return Sent(found["flows"], found["seconds"])

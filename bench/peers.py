"""The programs that are compared, each behind one small adapter: a command line for some flows."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import split
from shutil import which
from typing import TypeAlias

from .native import Programs

MANY_RULES = "10000"
LEAST, MOST = 60, 400  # bytes of market data
GATHERED = 64  # datagrams of random sizes that the bare sender sends in one system call
RUN_LIMIT_S = 900  # a relay that outlives the bench ends by itself, where it can

Command: TypeAlias = Callable[[Sequence["Flow"], int], list[str]]


@dataclass(frozen=True, slots=True)
class Flow:
    """One input and where its copies go, each as GROUP:PORT."""

    input: str
    outputs: tuple[str, ...]

    def rule(self) -> str:
        """Give the flow as rule text of mcr."""
        outputs = " ".join(_on(to, "tx0") for to in self.outputs)
        return f"{_on(self.input, 'rx0')} to {outputs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A relay, or a program that only sends to the outputs.

    Attributes:
        command: makes the command line from the flows and the size of a datagram in bytes.
        missing: why it cannot run here; empty where it can.
        single: it knows one input and one output only.
        sends: it sends by itself and needs no generator in front.
        cores: how many it needs; the second one is shared with the generator.
    """

    name: str
    command: Command
    missing: str = ""
    single: bool = False
    sends: bool = False
    cores: int = 1


def known_peers(programs: Programs, mcr: str, folder: Path) -> dict[str, Peer]:
    """List every peer the bench has an adapter for, present or not."""
    peers = [
        Peer(name="mcr", command=_mcr_relay(mcr), missing=_absent(mcr, "pip install .")),
        Peer(
            name="mcr_workers_2",
            command=_mcr_relay(mcr, "--workers", "2"),
            missing=_absent(mcr, "pip install ."),
            cores=2,
        ),
        *(
            Peer(
                name=f"mcr_{way}",
                command=_mcr_relay(mcr, "--egress", way),
                missing=_without_option(mcr, "--egress"),
            )
            for way in ("socket", "xdp")
        ),
        Peer(
            name="mcr_kernel",
            command=_mcr_relay(mcr, "--offload", "require"),
            missing=_without_option(mcr, "--offload"),
        ),
        Peer(name="mcr_many_rules", command=_mcr_many_rules("0")),
        Peer(name="mcr_changing_rules", command=_mcr_many_rules("20")),
        Peer(
            name="mcr_send",
            command=_mcr_send(mcr),
            missing=_absent(mcr, "pip install ."),
            single=True,
            sends=True,
        ),
        Peer(name="one_by_one", command=_one_by_one(programs)),
        Peer(
            name="mcr_merge",
            command=_mcr_merge(mcr),
            missing=_absent(mcr, "pip install ."),
        ),
        Peer(name="merge_one_by_one", command=_merge_one_by_one(programs)),
        Peer(name="bare_sender", command=_bare_sender(programs), sends=True),
        Peer(
            name="bare_sender_mixed",
            command=_bare_sender(programs, "-m", str(LEAST), "-g", str(GATHERED)),
            sends=True,
        ),
        Peer(
            name="socat",
            command=_socat,
            missing=_absent("socat", "apt-get install socat"),
            single=True,
        ),
        Peer(
            name="kernel",
            command=_kernel(folder),
            missing=_absent("smcrouted", "apt-get install smcroute"),
            single=True,
        ),
    ]
    return {peer.name: peer for peer in peers}


def template_peer(text: str) -> Peer:
    """Make a peer from NAME=COMMAND with fields in braces.

    {rules} is every flow as rule text, each one argument; {outputs} is GROUP:PORT of every output
    of the first flow, each one argument, or with commas inside an argument; {group}, {port},
    {in_if}, {out_if} are its parts.
    """
    name, _, template = text.partition("=")

    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        del size_bytes
        group, port = flows[0].input.split(":")
        lists = {"{rules}": [flow.rule() for flow in flows], "{outputs}": list(flows[0].outputs)}
        outputs = ",".join(flows[0].outputs)
        words = {"{group}": group, "{port}": port, "{in_if}": "rx0", "{out_if}": "tx0"}
        filled: list[str] = []
        for part in split(template):
            word = part
            for field, value in words.items():
                word = word.replace(field, value)
            filled += lists.get(word, [word.replace("{outputs}", outputs)])
        return filled

    return Peer(name=name, command=command, missing=_absent(split(template)[0], "give its path"))


def _absent(program: str, remedy: str) -> str:
    return "" if which(program) else f"no {program} here: {remedy}"


def _without_option(mcr: str, option: str) -> str:
    """Give why the relay cannot be run with an option; empty where it can."""
    if missing := _absent(mcr, "pip install ."):
        return missing
    command = [mcr, "relay", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return "" if option in text else f"this mcr has no {option}"


def _on(endpoint: str, interface: str) -> str:
    host, port = endpoint.split(":")
    return f"{host}%{interface}:{port}"


def _mcr_relay(mcr: str, *options: str) -> Command:
    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        del size_bytes
        rules = [flow.rule() for flow in flows]
        return [
            mcr,
            "relay",
            *rules,
            "--ingress",
            "packet",
            "--json",
            "--duration",
            str(RUN_LIMIT_S),
            *options,
        ]

    return command


def _mcr_many_rules(changes_per_s: str) -> Command:
    """Make a program that uses the library of the bench's own Python."""
    program = str(Path(__file__).parent / "peers" / "many_rules.py")

    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        del size_bytes
        return [sys.executable, program, MANY_RULES, changes_per_s, flows[0].rule()]

    return command


def _mcr_send(mcr: str) -> Command:
    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        to = _on(flows[0].outputs[0], "tx0")
        size, limit_s = str(size_bytes), str(RUN_LIMIT_S)
        return [mcr, "send", to, "--flood", "--size", size, "--duration", limit_s]

    return command


def _one_by_one(programs: Programs) -> Command:
    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        del size_bytes
        rules = [f"{flow.input}={','.join(flow.outputs)}" for flow in flows]
        return [programs.one_by_one, "rx0", "tx0", *rules]

    return command


def _mcr_merge(mcr: str) -> Command:
    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        del size_bytes
        inputs = " + ".join(_on(flow.input, "rx0") for flow in flows)
        rule = f"{inputs},merge=rtp to {_on(flows[0].outputs[0], 'tx0')}"
        limit = ("--json", "--duration", str(RUN_LIMIT_S))
        return [mcr, "relay", rule, "--ingress", "packet", *limit]

    return command


def _merge_one_by_one(programs: Programs) -> Command:
    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        del size_bytes
        inputs = [flow.input for flow in flows]
        return [programs.merge_one_by_one, "rx0", "tx0", *inputs, flows[0].outputs[0]]

    return command


def _bare_sender(programs: Programs, *options: str) -> Command:
    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        outputs = [to for flow in flows for to in flow.outputs]
        return [programs.sender, "-s", str(size_bytes), *options, "tx0", *outputs]

    return command


def _socat(flows: Sequence[Flow], size_bytes: int) -> list[str]:
    del size_bytes
    group, port = flows[0].input.split(":")
    receive = f"UDP4-RECV:{port},bind={group},ip-add-membership={group}:rx0,reuseaddr"
    # socat takes the interface of a multicast output by address only: the relay's tx0.
    return [
        "socat",
        "-u",
        receive,
        f"UDP4-DATAGRAM:{flows[0].outputs[0]},ip-multicast-if=10.77.1.1",
    ]


def _kernel(folder: Path) -> Command:
    def command(flows: Sequence[Flow], size_bytes: int) -> list[str]:
        del size_bytes
        group = flows[0].input.split(":")[0]
        config = folder / "smcroute.conf"
        config.write_text(f"mgroup from rx0 group {group}\nmroute from rx0 group {group} to tx0\n")
        files = [
            "-f",
            str(config),
            "-P",
            str(folder / "smcroute.pid"),
            "-u",
            str(folder / "smcroute.sock"),
        ]
        return ["smcrouted", "-n", *files]

    return command

"""Command line: `python -m bench [SCENARIO...]`, as root."""

import argparse
import os
import signal
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from types import FrameType

from .failure import BenchError
from .machine import describe
from .measure import Bench
from .native import Programs, compiled
from .peers import Peer, known_peers, template_peer
from .plot import as_svg
from .report import as_json, as_markdown, as_text, result_lines, tables
from .scenarios import Scenario, all_scenarios, quick_scenarios, select
from .session import Result, run_scenario
from .targets import check
from .topology import remove_leftovers

TOOLS = {
    "ip": "iproute2",
    "nft": "nftables",
    "ethtool": "ethtool",
    "taskset": "util-linux",
    "nice": "coreutils",
    "setpriv": "util-linux",
    "sysctl": "procps",
}
CORES_NEEDED = 2


def main() -> int:
    """Run the bench; 0, 1 where it failed, 2 for wrong usage."""
    options = _parser().parse_args()
    scenarios = select(quick_scenarios() if options.quick else all_scenarios(), options.scenario)
    if options.list:
        print("\n".join(scenario.name for scenario in scenarios))
        return 0
    if not scenarios:
        print("bench: no such scenario; --list names them", file=sys.stderr)
        return 2
    # A terminated bench unwinds as an interrupted one does, and so removes its namespaces.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        _check_machine()
        return _run(options, scenarios)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Peers side by side in network namespaces."
    )
    parser.add_argument(
        "scenario",
        nargs="*",
        help="names or patterns, as 1:8, 'latency*', '*/offload'; default: all",
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument(
        "--quick", action="store_true", help="one pair of 1:1 and 1:8 in every mode"
    )
    parser.add_argument(
        "--mcr", default=_installed_mcr(), metavar="PATH", help="the mcr command (%(default)s)"
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more relay; {rules} {in_if} {out_if} {group} {port} {outputs} are filled in",
    )
    parser.add_argument("--only", metavar="PEER,...", help="leave out all others")
    parser.add_argument(
        "--reference", metavar="PEER", help="divide by this peer, as mcr to compare another build"
    )
    parser.add_argument("--pairs", type=_positive, help="pairs of runs for each ratio (5)")
    parser.add_argument(
        "--window",
        type=float,
        default=1.5,
        metavar="S",
        help="seconds measured in a run (%(default)s)",
    )
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="also write the tables as Markdown"
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="also draw the rates as SVG")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every run as JSON")
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def _installed_mcr() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "mcr"
    return str(beside) if beside.exists() else "mcr"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise BenchError("network namespaces need root: sudo make bench")
    missing = sorted({package for tool, package in TOOLS.items() if which(tool) is None})
    if missing:
        raise BenchError(f"missing programs: apt-get install {' '.join(missing)}")
    if len(os.sched_getaffinity(0)) < CORES_NEEDED:
        raise BenchError("two cores are needed: one generates, the other relays")


def _run(options: argparse.Namespace, scenarios: list[Scenario]) -> int:
    generator_core, relay_core = sorted(os.sched_getaffinity(0))[:CORES_NEEDED]
    # The bench itself stays off the relay's core.
    os.sched_setaffinity(0, {generator_core})
    remove_leftovers()
    machine = describe(options.mcr)
    results: list[Result] = []
    with compiled() as programs, TemporaryDirectory(prefix="mcr-bench-") as folder:
        bench = Bench(
            programs=programs,
            generator_core=generator_core,
            relay_core=relay_core,
            # Merging begins within a second of the first thousand datagrams.
            warm_s=1.5,
            window_s=options.window,
        )
        peers, custom = _peers(options, programs, Path(folder))
        if options.reference is not None and options.reference not in peers:
            raise BenchError(f"--reference: no peer {options.reference}; {', '.join(peers)}")
        pairs = options.pairs or (1 if options.quick else 5)
        for scenario in scenarios:
            result = run_scenario(
                bench, scenario, peers, custom, pairs=pairs, reference=options.reference
            )
            results.append(result)
            print(result_lines(result), flush=True)
    _report(options, machine, results)
    return 1 if any(result.failure for result in results) else 0


def _peers(
    options: argparse.Namespace, programs: Programs, folder: Path
) -> tuple[dict[str, Peer], list[str]]:
    custom = [template_peer(text) for text in options.peer]
    peers = known_peers(programs, options.mcr, folder) | {peer.name: peer for peer in custom}
    if options.only:
        peers |= {
            name: replace(peer, missing="left out by --only")
            for name, peer in peers.items()
            if name not in options.only.split(",")
        }
    return peers, [peer.name for peer in custom]


def _report(options: argparse.Namespace, machine: dict[str, str], results: list[Result]) -> None:
    outcomes = check(results)
    content = tables(machine, results, outcomes)
    print("\n" + as_text(content))
    if options.markdown:
        options.markdown.write_text(as_markdown(content))
    if options.plot:
        options.plot.write_text(as_svg(results))
    if options.json:
        options.json.write_text(as_json(machine, results, outcomes))


if __name__ == "__main__":
    sys.exit(main())

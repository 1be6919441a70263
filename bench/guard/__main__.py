"""Command line: `python -m bench.guard [--rebase]`, or `make guard`; needs cargo and valgrind.

Counts with callgrind what the engine's turns do in user space for a number of datagrams, less what
they do for none. Making an engine is left out: what that takes depends on where memory happens to
lie. The counts repeat to the instruction, so a small change shows on any machine; only
another compiler makes other code, and so numbers are kept for each.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "target" / "release" / "hot_loop"
EXPECTED = Path(__file__).parent / "expected.json"
COUNTED = "_native::engine::Engine::work"
# Twice this is a change that a reader of the numbers must not miss: 10 % more fails.
TOLERANCE = 0.05
RUN_LIMIT_S = 60
# What the program is told, by name; the datagrams come second.
WORKLOADS = {
    "1:1, one datagram in a turn": ("1", "1", "steady"),
    "1:1, 192 datagrams in batches": ("1", "192", "steady"),
    "1:1, 192 datagrams, with flows": ("1", "192", "steady", "flows"),
    "1:1, 192 datagrams, with latency": ("1", "192", "steady", "latency"),
    "1:8, 192 datagrams in batches": ("8", "192", "steady"),
    "1:8, 192 datagrams sent one by one": ("8", "192", "rising"),
    "20x1:1, 192 datagrams, random sizes": ("1", "192", "mixed"),
    "20x1:8, 192 datagrams, random sizes": ("8", "192", "mixed"),
}


class GuardError(Exception):
    """The count could not be made; the text says why."""


def main() -> int:
    """Count and compare; 0, or 1 where something has become longer."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard")
    parser.add_argument("--rebase", action="store_true", help="keep today's numbers")
    options = parser.parse_args()
    try:
        compiler = _compiler()
        build = ["cargo", "build", "--quiet", "--release", "--locked", "--no-default-features"]
        _run([*build, "--bin", PROGRAM.name])
        counts = {name: _instructions(*words) for name, words in WORKLOADS.items()}
    except GuardError as error:
        print(f"guard: {error}", file=sys.stderr)
        return 1
    known = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    if options.rebase:
        known[compiler] = counts
        EXPECTED.write_text(json.dumps(known, indent=4, sort_keys=True) + "\n")
    if compiler not in known:
        print(f"guard: no numbers for {compiler}, so nothing is compared;", file=sys.stderr)
        print("       'make guard REBASE=1' keeps those of this build", file=sys.stderr)
    return _compare(counts, known.get(compiler, {}))


def _compare(counts: dict[str, int], known: dict[str, int]) -> int:
    longer = False
    for name, count in counts.items():
        change = count / known[name] - 1 if name in known else 0.0
        longer |= change > TOLERANCE
        words = "LONGER" if change > TOLERANCE else "shorter" if change < -TOLERANCE else ""
        print(f"{name:36} {count:9,} instructions  {change:+7.1%}  {words}".rstrip())
    if longer:
        print(
            f"guard: the path has become more than {TOLERANCE:.0%} longer; where that is meant,"
            " 'make guard REBASE=1' keeps the new numbers",
            file=sys.stderr,
        )
    return int(longer)


def _instructions(outputs: str, datagrams: str, *options: str) -> int:
    return _count(outputs, datagrams, *options) - _count(outputs, "0", *options)


def _count(*words: str) -> int:
    with TemporaryDirectory(prefix="mcr-guard-") as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out",
            f"--toggle-collect={COUNTED}",
            str(PROGRAM),
            *words,
        ]
        found = re.search(r"Collected : (\d+)", _run(command))
    if found is None or found[1] == "0":
        raise GuardError(f"valgrind counted nothing in {COUNTED}")
    return int(found[1])


def _compiler() -> str:
    version = _run(["rustc", "--version"]).split()[1]
    return f"rustc {version}, {platform.machine()}"


def _run(command: list[str]) -> str:
    """Run a command and give what it printed, warnings of valgrind included."""
    limit_s = None if command[0] == "cargo" else RUN_LIMIT_S
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=limit_s
        )
    except FileNotFoundError:
        raise GuardError(f"no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise GuardError(f"{command[0]} did not end within {limit_s} s") from None
    except subprocess.CalledProcessError as error:
        raise GuardError(f"{command[0]}: {error.stderr.strip()}") from error
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())

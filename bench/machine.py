"""What the numbers were taken on."""

import os
import platform
import re
import subprocess
from pathlib import Path


def describe(mcr: str) -> dict[str, str]:
    """Describe kernel, processor, cores and the versions of the programs that matter."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", text)
    flags = re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE)
    versions = {
        "mcr": _first_line(mcr, "--version"),
        "C compiler": _first_line("cc", "--version"),
        "socat": _first_line("socat", "-V", containing="version"),
        "smcroute": _first_line("smcrouted", "-v"),
    }
    return {
        "kernel": platform.release(),
        "processor": (model[1] if model else platform.machine()) + (", virtual" if flags else ""),
        "cores": str(os.cpu_count()),
        "Python": platform.python_version(),
    } | {name: version for name, version in versions.items() if version}


def _first_line(*command: str, containing: str = "") -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    lines = [line for line in done.stdout.splitlines() if line and containing in line]
    return lines[0].strip() if lines else ""

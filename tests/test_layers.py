"""Imports point down, and what is dangerous stays behind one door."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "mcr"
CRATE = ROOT / "rust"

# A module imports only what stands before it.
PYTHON_LAYERS = [
    "_native",
    "errors",
    "shape",
    "stats",
    "states",
    "fields",
    "rule_text",
    "rules",
    "lookups",
    "names",
    "loops",
    "resolved",
    "lanes",
    "precedence",
    "advice",
    "copies",
    "memberships",
    "loopback",
    "host",
    "resolver",
    "indexes",
    "proposal",
    "config",
    "reading",
    "cpus",
    "settings",
    "candidate",
    "running",
    "lifecycle",
    "retries",
    "accounts",
    "traffic",
    "relay",
    "doctor",
    "daemon",
    "peercred",
    "journal",
    "client",
    "supervisor",
    "control",
    "cli",
]
RUST_LAYERS = [
    "addr",
    "error",
    "sys",
    "sandbox",
    "packet",
    "rules",
    "stats",
    "sockets",
    "broker",
    "engine",
    "relay",
    "worker",
    "traffic",
    "python",
]
PURE = ["addr", "packet", "rules"]  # neither sockets nor clocks
HEAVY = {"asyncio", "pydantic", "rich", "typer"}  # never loaded by `import mcr`


def python_files(layer: str) -> list[Path]:
    """The files of a module or a subpackage."""
    single = PACKAGE / f"{layer}.py"
    return [single] if single.exists() else sorted((PACKAGE / layer).rglob("*.py"))


def rust_files(layer: str) -> list[Path]:
    """The files of a Rust module."""
    single = CRATE / f"{layer}.rs"
    return ([single] if single.exists() else []) + sorted((CRATE / layer).rglob("*.rs"))


def siblings_used(path: Path) -> set[str]:
    """The modules of the package that a file imports, as `from .name import …` says it."""
    depth = len(path.relative_to(PACKAGE).parts)
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            used |= {name.split(".")[0] for name in names}
    return used


def without_comments(path: Path) -> str:
    """The code of a Rust file."""
    return re.sub(r"//.*", "", path.read_text())


def test_every_module_has_a_layer() -> None:
    """A new module must be given its place here."""
    python = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert python - {"__init__", "__main__", "__pycache__"} <= set(PYTHON_LAYERS)
    assert {path.stem for path in CRATE.iterdir()} - {"lib"} <= set(RUST_LAYERS)


@pytest.mark.parametrize("layer", PYTHON_LAYERS)
def test_python_imports_point_down(layer: str) -> None:
    """A module of the package imports only modules of the layers below."""
    allowed = set(PYTHON_LAYERS[: PYTHON_LAYERS.index(layer)])
    for path in python_files(layer):
        assert siblings_used(path) <= allowed, path


@pytest.mark.parametrize("layer", PYTHON_LAYERS)
def test_a_constant_is_defined_once(layer: str) -> None:
    """A second definition in the same module would silently win."""
    for path in python_files(layer):
        names: list[str] = []
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets += [node.target] if isinstance(node, ast.AnnAssign) else []
            names += [target.id for target in targets if isinstance(target, ast.Name)]
        assert len(names) == len(set(names)), path


@pytest.mark.parametrize("layer", RUST_LAYERS)
def test_rust_uses_point_down(layer: str) -> None:
    """A module of the crate uses only itself and modules of the layers below."""
    allowed = set(RUST_LAYERS[: RUST_LAYERS.index(layer) + 1])
    for path in rust_files(layer):
        code = without_comments(path)
        assert "crate::{" not in code, f"{path}: one module to a `use`, so that this test sees it"
        assert set(re.findall(r"\bcrate::(\w+)", code)) <= allowed, path


@pytest.mark.parametrize("layer", PURE)
def test_pure_modules_know_neither_sockets_nor_clocks(layer: str) -> None:
    """What parses and matches can be tested with bytes alone."""
    forbidden = r"\b(libc|nix|socket2|io_uring|std::time|std::os|UdpSocket)\b"
    for path in rust_files(layer):
        assert not re.search(forbidden, without_comments(path)), path


def test_unsafe_and_python_stay_behind_their_doors() -> None:
    """`unsafe` stands only in rust/sys, PyO3 only in rust/python."""
    for path in CRATE.rglob("*.rs"):
        code = without_comments(path)
        place = path.relative_to(CRATE).parts[0]
        assert place == "sys" or not re.search(r"\bunsafe\b", code), path
        assert place == "python" or not re.search(r"\bpyo3\b", code), path


def test_import_stays_light() -> None:
    """`import mcr` loads nothing that only the command line needs."""
    script = "import sys, mcr; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not HEAVY & set(run.stdout.split())


def test_the_supervisor_stays_small() -> None:
    """It has the rights, so it loads neither what parses for clients nor their libraries."""
    script = "import sys, mcr.supervisor; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not (HEAVY | {"mcr.control", "mcr.client", "mcr.config"}) & set(run.stdout.split())
    for path in python_files("supervisor"):
        assert not {"control", "client", "config", "rules"} & siblings_used(path), path

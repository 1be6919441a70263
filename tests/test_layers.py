"""Imports point down, and dangerous facilities stay in one module."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import rust_sources

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "mcr"
CRATE = ROOT / "rust"

# A module imports only what stands before it.
PYTHON_LAYERS = [
    "_native",
    "errors",
    "choices",
    "log_levels",
    "json_codec",
    "affinity",
    "async_closing",
    "capabilities",
    "text_file",
    "similar_names",
    "repeats",
    "time_limit",
    "rules",
    "stats",
    "shared_memory",
    "taps",
    "explain",
    "streams",
    "alarms",
    "traffic",
    "relay",
    "doctor",
    "protocol",
    "config",
    "client",
    "daemon",
    "fleet",
    "service",
    "web",
    "top",
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
    "merge",
    "tap",
    "spec",
    "sockets",
    "offload",
    "broker",
    "engine",
    "relay",
    "worker",
    "traffic",
    "python",
]
SOURCES = ["python", "rust", "tests", "bench", "examples", "fuzz"]
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60
IN_BOTH_LANGUAGES = {  # one concept, which Python shows and Rust does
    "Broker",
    "InputTrouble",
    "Latency",
    "ReceiveReport",
    "Rate",
    "Receiver",
    "Relay",
    "RuleEdit",
    "RuleStatus",
    "RuleStatusTracker",
    "SendReport",
    "Sender",
    "TapFilter",
}
PURE = ["addr", "packet", "rules"]  # neither sockets nor clocks
HEAVY = {
    "asyncio",
    "nats",
    "pydantic",
    "rich",
    "starlette",
    "textual",
    "typer",
    "uvicorn",
}  # never loaded by `import mcr`


def python_files(layer: str) -> list[Path]:
    """The files of a module or a subpackage."""
    single = PACKAGE / f"{layer}.py"
    return [single] if single.exists() else sorted((PACKAGE / layer).rglob("*.py"))


def rust_files(layer: str) -> list[Path]:
    """The files of a Rust module."""
    single = CRATE / f"{layer}.rs"
    return ([single] if single.exists() else []) + sorted((CRATE / layer).rglob("*.rs"))


def module_of(path: Path) -> str:
    """The dotted name of a module below `mcr`; a package has the name of its directory."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a file imports, by their dotted names below `mcr`."""
    package = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) + 1 - node.level], *(node.module or "").split(".")]
            origin = ".".join(part for part in base if part)
            for alias in node.names:
                inner = f"{origin}.{alias.name}".strip(".")
                found.add(inner if inner in PYTHON_MODULES else origin)
    return found


PYTHON_MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")} | {"_native": PACKAGE}


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
    allowed = set(PYTHON_LAYERS[: PYTHON_LAYERS.index(layer) + 1])
    for path in python_files(layer):
        assert {name.split(".")[0] for name in imports_of(path)} <= allowed, path


def test_python_modules_import_in_no_circle() -> None:
    """Modules can be read in an order in which each one's imports come before it."""
    graph = {name: imports_of(path) for name, path in PYTHON_MODULES.items() if path.is_file()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


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


def test_rust_modules_use_each_other_in_no_circle() -> None:
    """Modules can be read in order; a module and those that contain it count as one."""
    modules = [module for module in rust_sources.MODULES if not rust_sources.is_test(module)]
    graph = {module: rust_sources.imports_of(module) for module in modules}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def python_type_names() -> Iterator[tuple[str, Path]]:
    """The public classes of the package, each with the file that defines it."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path


def test_type_names_are_unique() -> None:
    """A name can be looked up in the whole repository and means one thing."""
    homes: dict[str, list[Path]] = {}
    for name, path in (*python_type_names(), *rust_sources.type_names()):
        homes.setdefault(name, []).append(path)
    doubles = {
        name: paths
        for name, paths in homes.items()
        if len(paths) > (2 if name in IN_BOTH_LANGUAGES else 1)
    }
    assert not doubles


def test_files_and_functions_are_short() -> None:
    """A longer one contains a second idea. Clippy counts the functions of the crate."""
    sources = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.[pr][ys]")]
    assert not {path for path in sources if len(path.read_text().splitlines()) > MAX_FILE_LINES}
    assert not {
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in sources
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    }


@pytest.mark.parametrize("layer", PURE)
def test_pure_modules_use_neither_sockets_nor_clocks(layer: str) -> None:
    """Parsing and matching can be tested with bytes alone."""
    forbidden = r"\b(libc|nix|socket2|io_uring|std::time|std::os|UdpSocket)\b"
    for path in rust_files(layer):
        assert not re.search(forbidden, without_comments(path)), path


def test_unsafe_and_python_stay_in_their_modules() -> None:
    """`unsafe` is in rust/sys only, PyO3 in rust/python only."""
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
    """It has the rights, so it loads neither parsers of client input nor their libraries."""
    script = "import sys, mcr.daemon.supervisor; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    unwanted = HEAVY | {"mcr.daemon.control", "mcr.client", "mcr.rules"}
    assert not unwanted & set(run.stdout.split())
    for path in (PACKAGE / "daemon" / "supervisor").glob("*.py"):
        assert not [name for name in imports_of(path) if f"mcr.{name}".startswith(tuple(unwanted))]

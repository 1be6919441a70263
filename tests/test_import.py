"""`import mcr` stays cheap, and the package exports what it says."""

import ast
import inspect
import os
import re
import subprocess
import sys
import typing
from importlib.metadata import version
from pathlib import Path

import pytest

import mcr

LIMIT = 6
"""The processor time of an import, in starts of an interpreter; it is about 4."""
RUNS = 9
HEAVY = ("pydantic", "rich", "typer", "asyncio", "mcr.cli")


def _cpu_s(code: str) -> float:
    """Return the processor time of an interpreter that runs the code."""
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
    _, status, used = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return used.ru_utime + used.ru_stime


def test_import_is_quick() -> None:
    """A program that needs one relay does not wait for the whole package."""
    code = "from mcr import Rule, RuleError"
    _cpu_s(code)  # fills the page cache and writes the byte code
    # Other load takes caches away and so adds to the time, of both alike: the best runs compare.
    imports, starts = zip(*((_cpu_s(code), _cpu_s("pass")) for _ in range(RUNS)), strict=True)
    assert min(imports) < LIMIT * min(starts)


@pytest.mark.parametrize("module", HEAVY)
def test_import_loads_nothing_heavy(module: str) -> None:
    """The command line's libraries stay with the command line."""
    code = (
        f"import sys; from mcr import Relay, Rule, RuleError; sys.exit({module!r} in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_a_command_loads_only_its_own_modules() -> None:
    """A daemon loads nothing that only clients, relays and reports need."""
    others = ("rich", "pydantic", "mcr.client", "mcr.doctor", "mcr.relay.relay", "mcr.traffic")
    code = (
        "import sys; from mcr.cli import application; application(['serve'])\n"
        f"sys.exit(' '.join(name for name in {others!r} if name in sys.modules))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert run.stderr.split() == []


RESOLVING = ("concurrent.futures", "mcr.rules.ruleset", "mcr.rules.resolver")
FILES = ("mcr.config.reader", "mcr.cli.config_file", "mcr.streams.sdp", "tomllib")


@pytest.mark.parametrize(
    ("command", "others"),
    [
        ("ping", (*RESOLVING, *FILES)),
        ("rule list", (*RESOLVING, *FILES)),
        ("stats", (*RESOLVING, *FILES)),
        ("apply mcr.toml --yes", RESOLVING),
    ],
)
def test_a_client_loads_what_it_needs(
    command: str, others: tuple[str, ...], tmp_path: Path
) -> None:
    """Without a terminal no table is drawn, and the daemon resolves the rules."""
    (tmp_path / "mcr.toml").write_text("rules = []")
    others = ("rich.console", "rich.table", "asyncio", "mcr.relay.relay", "mcr.web", *others)
    code = (
        "import sys; from mcr.__main__ import main; main()\n"
        f"sys.exit(' '.join(name for name in {others!r} if name in sys.modules) or 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *command.split(), "--socket", "no.sock"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )
    assert run.stderr.splitlines() == [
        "mcr: no daemon listens at no.sock; start one with mcr serve"
    ], run.stderr


def test_public_names_exist_and_are_documented() -> None:
    """`__all__` is the API: every name is there, sorted, and has a docstring."""
    assert mcr.__all__ == sorted(mcr.__all__)
    assert [name for name in mcr.__all__ if not getattr(mcr, name).__doc__] == []
    assert set(mcr.__all__) <= set(dir(mcr))


def test_type_checkers_see_the_same_names() -> None:
    """The imports that only they read are those that `__getattr__` makes at first use."""
    (block,) = (
        node
        for node in ast.parse(inspect.getsource(mcr)).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {
        alias.asname: f".{node.module}" for node in imports for alias in node.names if alias.asname
    }
    assert seen == mcr._MODULE_OF


def test_result_types_are_public() -> None:
    """A program can annotate all results, such as `dict[str, mcr.RuleRate]`."""
    public = {getattr(mcr, name) for name in mcr.__all__}
    methods = [
        method
        for each in public
        if inspect.isclass(each)
        for name, method in vars(each).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]
    returned = " ".join(str(typing.get_type_hints(method).get("return")) for method in methods)
    named = set(re.findall(r"mcr\.[\w.]*\.([A-Z]\w*)", returned))
    assert named <= set(mcr.__all__)


def test_the_version_is_that_of_the_command() -> None:
    """Looked up in the installed package, at the first use only."""
    assert mcr.__version__ == version("mcr-relay")
    assert "__version__" in dir(mcr)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Loading names at first use does not hide spelling mistakes."""
    with pytest.raises(AttributeError, match="'Relais'"):
        mcr.Relais  # noqa: B018 -- looking it up is the test

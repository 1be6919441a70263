"""The crate's sources, read as far as the tests of its structure need: modules, uses, types."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CRATE = Path(__file__).parents[2] / "rust"

Module = tuple[str, ...]

COMMENT = re.compile(r"//.*")
STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
INLINE_TESTS = re.compile(r"#\[cfg\(test\)\]\n(?:pub\S* )?mod \w+ \{.*", re.DOTALL)
PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+(?:::\{[^;]*\})?")
USE = re.compile(r"^ *(?:pub\S* )?use (\w[^;]*);", re.MULTILINE)
TYPE = re.compile(r"^(?:pub\S* )?(?:struct|enum|trait|type|union) (\w+)", re.MULTILINE)


def module_of(path: Path) -> Module:
    """The names of a module below the crate; a `mod.rs` is called like its directory."""
    parts = path.relative_to(CRATE).with_suffix("").parts
    return parts[:-1] if parts[-1] in {"mod", "lib"} else parts


def is_test(module: Module) -> bool:
    """Whether a module is compiled for tests only."""
    return any(part.endswith("tests") or part.startswith("test") for part in module)


MODULES = {module_of(path): path for path in sorted(CRATE.rglob("*.rs"))}


@cache
def code_of(module: Module) -> str:
    """The code of a module without comments, strings and the tests at its end."""
    bare = STRING.sub('""', COMMENT.sub("", MODULES[module].read_text()))
    return INLINE_TESTS.sub("", bare)


def type_names() -> Iterator[tuple[str, Path]]:
    """Each type, trait and alias of the crate, and the file that defines it."""
    for path in MODULES.values():
        for name in TYPE.findall(COMMENT.sub("", path.read_text())):
            yield name, path


def imports_of(module: Module) -> set[Module]:
    """The modules that define what a module uses; those around it and in it are left out."""
    paths = (path for found in PATH.findall(code_of(module)) for path in _leaves(found))
    homes = {_home(_absolute(module, path)) for path in paths}
    return {home for home in homes if not _is_around(home, module) and not is_test(home)}


def _leaves(tree: str) -> Iterator[Module]:
    """The single paths of `a::{b, c::{d, e}}`."""
    head, brace, rest = tree.strip().partition("{")
    names = tuple(name for name in head.split(" as ")[0].split("::") if name.strip())
    if not brace:
        yield names
        return
    depth, item = 0, ""
    for letter in rest.rpartition("}")[0] + ",":
        depth += (letter == "{") - (letter == "}")
        if letter != "," or depth:
            item += letter
            continue
        if item.strip():
            yield from (names + leaf for leaf in _leaves(item))
        item = ""


def _absolute(module: Module, path: Module) -> Module:
    """A path that begins with `crate`, `super`, `self` or a child of the module."""
    base = () if path[0] == "crate" else module
    while path and path[0] in {"crate", "super", "self"}:
        base, path = base[:-1] if path[0] == "super" else base, path[1:]
    return base + tuple(name for name in path if name != "self")


@cache
def _reexports(module: Module) -> dict[str, Module]:
    """What a module has the name of, though another one defines it."""
    found = {}
    for tree in USE.findall(code_of(module)):
        for path in _leaves(tree):
            if path[0] in {"crate", "super", "self"} or (*module, path[0]) in MODULES:
                absolute = _absolute(module, path)
                found[absolute[-1]] = absolute
    return found


def _home(path: Module) -> Module:
    """The module that defines the item of a path, through re-exports."""
    seen = set()
    while path not in seen:
        seen.add(path)
        module = max((path[:end] for end in range(len(path) + 1) if path[:end] in MODULES), key=len)
        rest = path[len(module) :]
        if rest and rest[0] in _reexports(module):
            path = _reexports(module)[rest[0]] + rest[1:]
    return module


def _is_around(one: Module, other: Module) -> bool:
    """Whether one of two modules contains the other."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]

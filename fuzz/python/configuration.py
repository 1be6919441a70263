"""Configuration files, TOML or JSON: any bytes are a configuration, or have problems in words."""

import sys

import atheris

with atheris.instrument_imports(include=["mcr.config", "mcr.rules", "mcr.errors"]):
    from mcr.config.document import FileContent
    from mcr.config.reader import read_files
    from mcr.errors import McrError


def fuzz_one(data: bytes) -> None:
    """Read the bytes as a main file, and half of them as an included one."""
    half = len(data) // 2
    files = (
        [FileContent("main.toml", data)],
        [
            FileContent("main.toml", data[:half]),
            FileContent("other.toml", data[half:]),
        ],
    )
    for each in files:
        refusal: McrError | None = None
        try:
            assert read_files(each).parsed is not None
        except McrError as error:
            refusal = error
        assert refusal is None or str(refusal)


atheris.Setup(sys.argv, fuzz_one)
atheris.Fuzz()

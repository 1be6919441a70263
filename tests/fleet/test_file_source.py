"""A directory of documents that comes late, or never."""

import asyncio
import time
from pathlib import Path

import pytest

from mcr.fleet import FileSource, NodeIdentity
from mcr.fleet.source import SourceError

LEAST_S, MOST_S = 0.5, 30.0


def test_a_directory_that_does_not_exist_is_waited_for(tmp_path: Path) -> None:
    """Without reading it again and again; its documents are found once they are there."""
    directory = tmp_path / "late"
    source = FileSource(directory, NodeIdentity("ams1"))

    async def follow() -> None:
        with pytest.raises(SourceError, match="is not a directory, or not mounted"):
            await source.read()
        began_s = time.monotonic()
        await source.wait_for_change(LEAST_S)
        assert time.monotonic() - began_s >= LEAST_S
        (directory / "nodes").mkdir(parents=True)
        (directory / "nodes" / "ams1.toml").write_text("rules = []\n")
        await source.wait_for_change(MOST_S)
        assert time.monotonic() - began_s < MOST_S
        assert [document.name for document in await source.read()] == ["nodes/ams1"]

    asyncio.run(follow())

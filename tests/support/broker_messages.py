"""What a worker says first to its broker, in the version of the crate's sources."""

import re

from .rust_sources import CRATE

(_PROTOCOL,) = re.findall(
    r"const PROTOCOL: u16 = (\d+);", CRATE.joinpath("broker", "messages", "mod.rs").read_text()
)
HELLO = b"\1" + int(_PROTOCOL).to_bytes(2, "little")

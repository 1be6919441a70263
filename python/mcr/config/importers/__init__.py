"""Configurations of other programs, read as rules.

What cannot be carried over becomes a comment; nothing is dropped without one.
"""

from collections.abc import Callable, Mapping

from . import mcrd, multicast_relay, samplicator, smcroute
from .imported import Imported

FORMATS: Mapping[str, Callable[[str], Imported]] = {
    "smcroute": smcroute.read,
    "samplicator": samplicator.read,
    "multicast-relay": multicast_relay.read,
    "mcrd": mcrd.read,
}
"""Reads the text of a file in each format; raises `ConfigError` with all problems."""

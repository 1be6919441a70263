"""Rules for the streams of a session description, for `mcr rule add --sdp`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..rules import Rule
from ..rules.fields import NAME_LIMIT_CHARS, Address
from ..rules.grammar import format_endpoint
from ..streams.sdp import SDP_LIMIT_BYTES, parse_sdp

_UNFIT = re.compile(r"[^\w.:+@%/-]+")


def rules_of_sdp(file: str, interface: str, to: str) -> list[str]:
    """Return a rule for each stream of a description; ``-`` is standard input.

    Args:
        file: the path of the description.
        interface: where its streams arrive.
        to: the output of the rules; ``%IFACE`` keeps the group and port of each.

    Raises:
        ValueError: the file cannot be read, or holds no stream that can be relayed.
        RuleError: the output is invalid.
    """
    try:
        name, streams = parse_sdp(_content(file))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{file} {error}") from None
    if len(streams) > 1 and not to.startswith("%"):
        raise ValueError(
            f"{file} has {len(streams)} streams, which cannot share an output; write --to %IFACE,"
            " which keeps the group and port of each"
        )
    names = _names(name, len(streams))
    return [
        str(
            Rule.parse(
                format_endpoint(
                    stream.group,
                    interface,
                    stream.port,
                    sources=stream.sources,
                    options=[("name", own)],
                )
                + f" to {rule_to(to, stream.group, stream.port)}"
            )
        )
        for stream, own in zip(streams, names, strict=True)
    ]


def rule_to(to: str, group: Address, port: int) -> str:
    """The text of an output: as given, or with the same group and port on an interface."""
    if not to.startswith("%"):
        return to
    interface, comma, options = to[1:].partition(",")
    if not interface or ":" in interface:
        raise ValueError("must be an output, or %IFACE with options after a comma")
    return f"{format_endpoint(group, interface, port)}{comma}{options}"


def _content(file: str) -> str:
    if file == "-":
        data = sys.stdin.buffer.read(SDP_LIMIT_BYTES)
    else:
        with Path(file).open("rb") as stream:
            data = stream.read(SDP_LIMIT_BYTES)
    return data.decode(errors="replace").removeprefix("\ufeff")


def _names(session: str, count: int) -> Iterator[str | None]:
    """A name of a rule for each stream: the session's, numbered if there are several."""
    base = _UNFIT.sub("-", session).strip("-")[: NAME_LIMIT_CHARS - 3]
    for number in range(1, count + 1):
        yield (f"{base}-{number}" if count > 1 else base) if base else None

"""The configuration file of samplicator, which copies UDP to receivers by its sender.

    ADDRESS[/MASK]: RECEIVER[/PORT[/FREQUENCY[,TTL]]] ...

The address and port on which it listens are options of its command line (-s, -p). A line of them in
the file, as `# listen 192.0.2.1:2000`, is read here; by default the port is 2000.
"""

import re
from ipaddress import ip_network

from .imported import Imported

_PORT = "2000"
_LISTEN = re.compile(r"#\s*listen\s+(\S+)")
_RECEIVER = re.compile(r"([^/,]+)(?:/(\d+)(?:/(\d+)(?:,(\d+))?)?)?")


def read(text: str) -> Imported:
    """The lines as rules.

    Raises:
        ConfigError: with the problems of all lines.
    """
    found = Imported()
    listen = _LISTEN.search(text)
    if listen is None:
        found.refuse(
            1, f"where it listens is missing; add a line such as '# listen 192.0.2.1:{_PORT}'"
        )
        return found.finished()
    found.comments.append("If samplicator runs with -S, add source=keep to the outputs.")
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if content:
            _read_line(found, number, content, listen[1])
    return found.finished()


def _read_line(found: Imported, line: int, content: str, listen: str) -> None:
    sender, colon, receivers = content.partition(": ")
    if not colon:
        found.refuse(line, "write ADDRESS[/MASK]: RECEIVER/PORT")
        return
    try:
        senders = ip_network(sender.strip(), strict=False)
    except ValueError:
        found.refuse(line, f"{sender!r} is no address with a mask")
        return
    source = ""
    if senders.prefixlen == senders.max_prefixlen:
        source = f"{senders.network_address}@"
    elif senders.prefixlen:
        found.note(line, f"accepted only the senders {senders}; this rule accepts any")
    outputs = [text for each in receivers.split() if (text := _output(found, line, each))]
    if outputs:
        found.add(line, f"{source}{listen} to {' '.join(outputs)}")


def _output(found: Imported, line: int, receiver: str) -> str | None:
    matched = _RECEIVER.fullmatch(receiver)
    if matched is None:
        found.refuse(line, f"{receiver!r} is no receiver; write ADDRESS/PORT")
        return None
    address, port, frequency, ttl = matched.groups()
    if int(frequency or 1) > 1:
        found.note(line, f"one of {frequency} datagrams went to {address}; mcr does not sample")
        return None
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port or _PORT}" + (f",ttl={ttl}" if ttl else "")

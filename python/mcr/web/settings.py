"""The settings of `mcr web`, and which addresses and tokens are acceptable."""

import os
import stat
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from . import limits

PORT = 9475
"""The default port."""
TOKEN_CHARS = 16
"""The least length of a token."""
_TOKEN_BYTES = 4096  # the longest file of a token
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The settings of a web server, fixed for its whole life."""

    socket: Path
    """The daemon's socket."""
    address: IPv4Address | IPv6Address
    """The address to listen at."""
    port: int
    """The port to listen at; 0 leaves the choice to the kernel."""
    token: str | None = None
    """What clients have to present; None on loopback only."""
    hosts: frozenset[str] = frozenset()
    """Names under which browsers reach the server, beside its own."""
    metric_rules: int = limits.METRIC_RULES
    """The most rules that have metrics of their own."""

    @property
    def accepted_hosts(self) -> frozenset[str] | None:
        """The values of the header Host that are answered, without a port; None answers all.

        A page of another site can have its own name resolve to this server (DNS rebinding). The
        browser then sends that name. Where a token is needed the page does not have it.
        """
        if not self.address.is_loopback and not self.hosts:
            return None
        return (
            self.hosts | {str(self.address)} | (_LOCAL_NAMES if self.address.is_loopback else set())
        )


def listening_address(text: str) -> IPv4Address | IPv6Address:
    """Parse the address to listen at.

    Raises:
        ValueError: it is not an address.
    """
    try:
        return ip_address("127.0.0.1" if text == "localhost" else text.strip("[]"))
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None


def read_token(path: Path) -> str:
    """Read the token in a file: its only line.

    Raises:
        ValueError: the file cannot be read, other users can read it, or the token is too short.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ValueError(f"every user can read {path}; chmod o-r {path}")
            content = file.read(_TOKEN_BYTES)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        token = content.decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if len(token) < TOKEN_CHARS or not token.isprintable() or " " in token:
        raise ValueError(
            f"{path} must hold one line of {TOKEN_CHARS} or more ASCII characters without blanks,"
            " such as the output of 'openssl rand -hex 32'"
        )
    return token

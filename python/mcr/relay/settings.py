"""The settings of a relay.

Owns which values each choice may have.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from ..affinity import chosen_cpus
from ..rules.hostnames import Hosts

Ingress = Literal["auto", "packet", "udp"]
BUFFER_BYTES = 32 * 2**20
"""Receive buffers per worker unless asked otherwise; memory is touched only when used."""
WORKERS_LIMIT = 256
"""More threads than that serve nobody: it is the limit of a fan-out group (packet(7)) too."""
_BUFFER_LEAST_BYTES = 2**20  # a few super-frames
_BUFFER_LIMIT_BYTES = 2**40


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the whole life of a relay."""

    ingress: Ingress
    workers: int
    buffer_bytes: int
    """Receive buffers of each worker."""
    cpus: tuple[int, ...]
    """The CPU of each worker; empty leaves the choice to the kernel."""
    verify_checksums: bool
    hosts: Hosts
    """To which of the addresses of an output's host name copies go."""

    @classmethod
    def checked(
        cls,
        *,
        ingress: Ingress,
        workers: int,
        buffer_bytes: int,
        cpus: Iterable[int] | str | None,
        verify_checksums: bool,
        hosts: Hosts,
    ) -> Self:
        """Settings as `Relay` takes them.

        Raises:
            ValueError: an ingress, a number of workers or of bytes, CPUs or hosts that cannot be.
        """
        if ingress not in ("auto", "packet", "udp"):
            raise ValueError(f"ingress: {ingress!r} is none of auto, packet, udp")
        if not isinstance(workers, int) or not 1 <= workers <= WORKERS_LIMIT:
            raise ValueError(f"workers: {workers!r} is not in 1 to {WORKERS_LIMIT}")
        if not (
            isinstance(buffer_bytes, int)
            and _BUFFER_LEAST_BYTES <= buffer_bytes <= _BUFFER_LIMIT_BYTES
        ):
            raise ValueError(f"buffer_bytes: {buffer_bytes!r} is not in 1 MiB to 1 TiB")
        try:
            numbers = () if cpus is None else chosen_cpus(cpus, workers)
        except ValueError as error:
            raise ValueError(f"cpus: {error}") from None
        if hosts not in ("first", "all"):
            raise ValueError(f"hosts: {hosts!r} is none of first, all")
        return cls(ingress, workers, buffer_bytes, numbers, verify_checksums, hosts)

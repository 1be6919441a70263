"""The settings of a relay, with their ranges."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, get_args

from ..affinity import chosen_cpus
from ..choices import Egress, Hosts, IngressChoice, Offload
from ..errors import ArgumentError
from ..rules.expectation import Expectation
from ..rules.fields import Invalid

BUFFER_BYTES = 32 * 2**20
"""Receive buffers of each worker by default; memory is touched only when used."""
WORKERS_LIMIT = 256
"""The limit of a fan-out group (packet(7)) too; more threads than that help no relay."""
_BUFFER_LEAST_BYTES = 2**20  # a few super-frames
_BUFFER_LIMIT_BYTES = 2**40


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Settings that hold for the whole life of a relay."""

    ingress: IngressChoice
    egress: Egress
    offload: Offload
    workers: int
    buffer_bytes: int
    """Receive buffers of each worker."""
    cpus: tuple[int, ...]
    """The CPU of each worker; empty leaves the choice to the kernel."""
    verify_checksums: bool
    flows: bool
    """Whether the flows of each rule are counted."""
    latency: bool
    """Whether the latency of each rule is measured."""
    hosts: Hosts
    """The addresses of an output's host name that get copies."""
    expect: Expectation | None
    """What rules expect that say nothing; None for nothing."""

    @property
    def uncounted(self) -> str | None:
        """Why no senders are counted; None if they are."""
        return why_uncounted(flows=self.flows, offload=self.offload)

    @classmethod
    def checked(
        cls,
        *,
        ingress: IngressChoice,
        egress: Egress,
        offload: Offload,
        workers: int,
        buffer_bytes: int,
        cpus: Iterable[int] | str | None,
        verify_checksums: bool,
        flows: bool,
        latency: bool,
        hosts: Hosts,
        expect: Expectation | str | None,
    ) -> Self:
        """Settings as `Relay` takes them.

        Raises:
            ArgumentError: a value is out of its range; the text names it.
        """
        _check_word("ingress", ingress, get_args(IngressChoice))
        _check_word("egress", egress, get_args(Egress))
        _check_word("offload", offload, get_args(Offload))
        _check_word("hosts", hosts, get_args(Hosts))
        _check_switches(verify_checksums=verify_checksums, flows=flows, latency=latency)
        if not _is_within(workers, 1, WORKERS_LIMIT):
            raise ArgumentError(
                f"workers: must be an integer from 1 to {WORKERS_LIMIT}, not {workers!r}"
            )
        if not _is_within(buffer_bytes, _BUFFER_LEAST_BYTES, _BUFFER_LIMIT_BYTES):
            raise ArgumentError(f"buffer_bytes: must be 1 MiB to 1 TiB, not {buffer_bytes!r}")
        try:
            numbers = () if cpus is None else chosen_cpus(cpus, workers)
        except TypeError:
            raise ArgumentError(f"cpus: must be a list such as 0,2-3, not {cpus!r}") from None
        except ValueError as error:
            raise ArgumentError(f"cpus: {error}") from None
        try:
            expectation = default_expectation(expect, flows=flows, offload=offload)
        except ValueError as error:
            raise ArgumentError(f"expect: {error}") from None
        return cls(
            ingress,
            egress,
            offload,
            workers,
            buffer_bytes,
            numbers,
            verify_checksums,
            flows,
            latency,
            hosts,
            expectation,
        )


def _check_word(name: str, value: object, words: Sequence[str]) -> None:
    if value not in words:
        choice = f"{', '.join(words[:-1])} or {words[-1]}"
        raise ArgumentError(f"{name}: must be {choice}, not {value!r}")


def _is_within(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check_switches(**switches: object) -> None:
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ArgumentError(f"{name}: must be True or False, not {value!r}")


def default_expectation(
    given: Expectation | str | None, *, flows: bool, offload: Offload
) -> Expectation | None:
    """What all rules of a relay expect that say nothing.

    Raises:
        ValueError: it cannot be read, or not be watched; the text says why.
    """
    if given is None:
        return None
    try:
        expectation = Expectation.parse(given)
    except Invalid as error:
        raise ValueError(str(error)) from None
    why = why_uncounted(flows=flows, offload=offload)
    if expectation.sources is not None and why is not None:
        raise ValueError(f"the number of sources cannot be watched: {why}")
    return expectation


def why_uncounted(*, flows: bool, offload: Offload) -> str | None:
    """Why no senders are counted, with what to do; None if they are."""
    if not flows:
        return "flows are not counted; start with --flows (flows=True)"
    if offload != "off":
        return "flows are not counted where the kernel relays; start with --offload off"
    return None

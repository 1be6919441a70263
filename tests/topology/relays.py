"""Relays of the product, opened inside a namespace."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import mcr

from .checks import assert_balanced
from .namespaces import Namespace

Ingress = Literal["auto", "packet", "udp"]


class Options(TypedDict, total=False):
    """How a relay is made."""

    ingress: Ingress
    egress: Literal["auto", "socket", "xdp"]
    offload: Literal["off", "auto", "require"]
    workers: int
    buffer_bytes: int
    hosts: Literal["first", "all"]
    cpus: Sequence[int] | str
    verify_checksums: bool
    flows: bool
    latency: bool
    classes: Sequence[mcr.TrafficClass]
    interface_rates: Sequence[mcr.InterfaceRate]


def put_threads_first(pid: int, name: str = "") -> None:
    """Give threads of a process priority over other work on this machine, as far as permitted.

    All of them, or those whose names begin like this.
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        if thread.joinpath("comm").read_text().startswith(name):
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), -10)


def put_engines_first() -> None:
    """The same for the engines of the relays of this process."""
    put_threads_first(os.getpid(), "mcr-engine")


@contextlib.contextmanager
def relaying(
    namespace: Namespace, *rules: mcr.Rule | str, **options: Unpack[Options]
) -> Iterator[mcr.Relay]:
    """Run a relay whose sockets are in the namespace; after its stop nothing may be pending."""
    with contextlib.ExitStack() as stack:
        with namespace:
            relay = stack.enter_context(mcr.Relay(*rules, **options))
        try:
            yield relay
        except AssertionError as error:
            error.add_note(f"the relay counted: {relay.stats().as_dict()}")
            raise
        relay.stop()
        stats = relay.stats()
        assert_balanced(stats)
        assert all(output.pending == 0 for rule in stats.rules for output in rule.outputs)

"""Facts about this host that decide whether the kernel can relay, read as in `facts`."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .. import _native
from ..capabilities import OFFLOAD_CAPABILITIES, missing_capabilities
from ..errors import McrError
from ..rules import Output, Rule
from ..rules.fields import Address

_KERNEL_TYPES = Path("/sys/kernel/btf/vmlinux")
_IP_VERSIONS = (4, 6)
_IPV4 = 4


@dataclass(frozen=True, slots=True)
class XdpDevice:
    """What an interface can do with XDP; see `mcr._native.XdpDevice`."""

    runs: bool | None = True
    sends: bool = True
    program: int | None = None
    merging: tuple[str, ...] = ()
    veth: bool = False
    peer: str | None = None
    receiver_above: str | None = None


@dataclass(frozen=True, slots=True)
class OffloadFacts:
    """Facts about one moment; the defaults describe a host where the kernel can relay."""

    missing_rights: tuple[str, ...] = ()
    """The capabilities that are not effective."""
    has_types: bool = True
    """Whether the kernel describes its types (BTF)."""
    devices: Mapping[str, XdpDevice] = field(default_factory=dict)
    """By the name of the interface."""
    input_obstacles: Mapping[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    """Interface and IP version of inputs, of which something else on this host inspects what
    arrives: a word and a sentence."""
    left_off: tuple[tuple[str, str], ...] = ()
    """Interfaces and features that a process of mcr has left switched off."""


def read_offload_facts(
    rules: Iterable[Rule],
    names: Mapping[str, str],
    ways: Mapping[Address, str | None],
    *,
    to_sockets: bool,
) -> OffloadFacts:
    """Read the facts about the interfaces of rules.

    Args:
        rules: the rules.
        names: the names of this host's interfaces, by all of their names.
        ways: the interfaces by which hosts are reached.
        to_sockets: whether inputs receive through UDP sockets, behind the firewall.
    """
    rules = tuple(rules)
    inputs = {names.get(rule.input.interface or ""): None for rule in rules}
    outputs = [_output(output, names, ways) for rule in rules for output in rule.outputs]
    devices = {}
    for name in filter(None, dict.fromkeys([*inputs, *outputs])):
        found = _native.xdp_device(name)
        if found is not None:
            devices[name] = _device(found)
    obstacles = {}
    for name in filter(None, inputs):
        for version in _IP_VERSIONS:
            why = _native.input_obstacle(name, version == _IPV4, to_sockets)
            if why is not None:
                obstacles[name, version] = why
    left_off: tuple[tuple[str, str], ...] = ()
    with suppress(McrError):
        left_off = tuple(_native.left_features())
    return OffloadFacts(
        missing_rights=tuple(missing_capabilities(OFFLOAD_CAPABILITIES)),
        has_types=_KERNEL_TYPES.exists(),
        devices=devices,
        input_obstacles=obstacles,
        left_off=left_off,
    )


def _output(
    output: Output, names: Mapping[str, str], ways: Mapping[Address, str | None]
) -> str | None:
    """The interface of an output, which routing may choose."""
    named = names.get(output.interface or "")
    return named or (ways.get(output.address) if isinstance(output.address, Address) else None)


def _device(found: _native.XdpDevice) -> XdpDevice:
    return XdpDevice(
        runs=found.runs,
        sends=found.sends,
        program=found.program,
        merging=tuple(found.merging),
        veth=found.veth,
        peer=found.peer,
        receiver_above=found.receiver_above,
    )

"""Checks whether copies can leave through AF_XDP, past the network stack.

Pure functions, as in `checks`.
"""

from collections.abc import Iterable, Iterator

from ..rules import Output
from ..rules.fields import Address, Network, first_of
from .facts import Facts
from .finding import Finding


def check_xdp(facts: Facts, outputs: Iterable[Output]) -> Iterator[Finding]:
    """Yield a finding for each interface and IP version with outputs to groups."""
    if not facts.packet_sockets:
        return  # the finding about the ingress names the right that is missing
    findings: dict[tuple[str, int], Finding] = {}
    for output in outputs:
        address, device = output.address, facts.devices.get(output.interface or "")
        if device is None or device.loopback or not isinstance(address, Address | Network):
            continue
        if not address.is_multicast:
            continue
        why = facts.xdp_obstacles.get((device.name, address.version))
        if why is None and output.loop is not False and first_of(address) in device.groups:
            why = f"a program on this host receives {first_of(address)} on {device.name}"
        known = findings.get((device.name, address.version))
        if known is None or (known.severity == "ok" and why is not None):
            findings[device.name, address.version] = _finding(device.name, address.version, why)
    yield from findings.values()


def _finding(name: str, version: int, why: str | None) -> Finding:
    copies = f"copies to IPv{version} groups on {name}"
    if why is None:
        return Finding("xdp", "ok", f"{copies} can leave through AF_XDP", name)
    text = f"{copies} leave through UDP sockets, which is slower for sizes that vary: {why}"
    return Finding("xdp", "advice", text, name)

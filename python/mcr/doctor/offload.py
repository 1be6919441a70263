"""Checks whether the kernel can relay in place of the engine (`--offload`), and what helps if not.

Pure functions, as in `checks`.
"""

from collections.abc import Iterable, Iterator, Sequence

from ..rules import Rule
from ..rules.fields import Address, block_bits, port_count
from .facts import Facts
from .finding import Finding
from .offload_facts import OffloadFacts, XdpDevice

_NAME = "offload"
_LOOK = {
    "capture": "ip -d link show {}",
    "filter": "tc filter show dev {} ingress",
    "firewall": "nft list hooks",
}
"""By the word of an obstacle: the command that shows it."""


def check_offload(facts: Facts, rules: Sequence[Rule], outputs: Iterable[str]) -> Iterator[Finding]:
    """Yield findings about the host, and about the interfaces of the rules.

    Args:
        facts: the facts.
        rules: the rules.
        outputs: the interfaces of the outputs.
    """
    known = facts.offload
    if known is None:
        return
    for name, feature in known.left_off:
        text = f"a process of mcr that has ended left {feature} of {name} off; mcr serve turns it"
        fix = f"ethtool -K {name} {feature} on"
        yield Finding(_NAME, "advice", f"{text} on when it starts", name, fix)
    if not rules:
        return
    refusal = _host(known)
    if refusal is not None:
        yield refusal
        return
    for rule in rules:
        yield from _rule(rule)
    inputs = {(rule.input.interface, rule.input.group.version): None for rule in rules}
    for interface, version in inputs:
        device = known.devices.get(interface or "")
        if interface is not None and device is not None and not facts.devices[interface].loopback:
            yield _input(interface, version, device, known)
    yield from _outputs(facts, known, outputs)


def _host(known: OffloadFacts) -> Finding | None:
    """What keeps the kernel from relaying anything."""
    if known.missing_rights:
        names = " and ".join(known.missing_rights)
        verb = "is" if len(known.missing_rights) == 1 else "are"
        text = f"the kernel cannot relay (--offload): {names} {verb} missing"
        return Finding(_NAME, "advice", text, fix='sudo "$(command -v mcr)" relay ...')
    if not known.has_types:
        text = "the kernel cannot relay (--offload): it was built without CONFIG_DEBUG_INFO_BTF"
        return Finding(_NAME, "advice", text)
    return None


def _rule(rule: Rule) -> Iterator[Finding]:
    """What in a rule itself only the engine can do."""
    why = None
    groups = [rule.input.group, *(output.address for output in rule.outputs)]
    ports = [rule.input.port, *(output.port for output in rule.outputs)]
    if not rule.input.group.is_multicast:
        why = "its input is no group"
    elif any(not isinstance(group, str) and block_bits(group) for group in groups) or any(
        port_count(port) > 1 for port in ports
    ):
        why = "it has a block of addresses or a range of ports: name single ones"
    elif any(output.priority is not None for output in rule.outputs):
        why = "an output has a priority, for a queueing discipline: omit the option"
    elif any(output.rate is not None for output in rule.outputs):
        why = "an output has a rate, which only the engine holds: omit the option"
    elif any(
        isinstance(output.address, Address) and output.address.version != rule.input.group.version
        for output in rule.outputs
    ):
        why = "an output is in the other address family"
    if why is not None:
        text = f"with --offload the engine relays {rule.name or rule.input}: {why}"
        yield Finding(_NAME, "advice", text)


def _input(name: str, version: int, device: XdpDevice, known: OffloadFacts) -> Finding:
    why, fix = _input_obstacle(name, version, device, known)
    datagrams = f"IPv{version} datagrams that arrive at {name}"
    if why is None:
        return Finding(_NAME, "ok", f"the kernel can relay {datagrams} (--offload)", name)
    text = f"with --offload the engine relays {datagrams}: {why}"
    return Finding(_NAME, "advice", text, name, fix)


def _input_obstacle(
    name: str, version: int, device: XdpDevice, known: OffloadFacts
) -> tuple[str | None, str | None]:
    """Why the program cannot be attached, or what would miss the datagrams; and the command."""
    if device.receiver_above is not None:
        upper = device.receiver_above
        return f"{upper} receives for it, and would get nothing any more", None
    if device.program is not None:
        number = device.program
        text = f"an XDP program is attached (number {number}), and unless it is of mcr it stays"
        return text, f"bpftool prog show id {number}"
    if not device.runs:
        return "its driver runs no XDP programs (native mode); use another interface", None
    if device.merging:
        off = " ".join(f"{feature} off" for feature in device.merging)
        return "it merges frames before XDP programs get them", f"ethtool -K {name} {off}"
    word, why = known.input_obstacles.get((name, version), ("", None))
    look = _LOOK.get(word)
    return why, look.format(name) if look else None


def _outputs(facts: Facts, known: OffloadFacts, outputs: Iterable[str]) -> Iterator[Finding]:
    """Whether drivers send the copies. What inspects them is a finding about AF_XDP too."""
    for name in dict.fromkeys(outputs):
        device = known.devices.get(name)
        if device is None or facts.devices[name].loopback:
            continue
        if device.sends:
            text = f"the driver of {name} sends copies of the kernel (--offload)"
            yield Finding(_NAME, "ok", text, name)
            continue
        text = f"with --offload the engine sends through {name}: its driver sends no XDP frames"
        if not device.veth:
            yield Finding(_NAME, "advice", f"{text}; use another interface", name)
            continue
        peer = device.peer or "PEER"
        text += f" while the other end of the veth has GRO off ({peer}, in its network namespace)"
        yield Finding(_NAME, "advice", text, name, f"ethtool -K {peer} gro on")

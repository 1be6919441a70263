"""`CopyKey`: equal for two rules that send the same datagram to the same destination.

`proposal` refuses a rule whose copies another rule already sends.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .fields import Address
from .spec import ResolvedInput, ResolvedOutput, ResolvedRule


class CopyKey(NamedTuple):
    """The copies of one sender's datagrams to one input at one destination.

    Equally specific rules both relay the datagrams that both match, so equal copies are refused.
    Two port ranges of the same width may overlap without beginning at the same port: ranges with
    equal `stride` overlap, ranges with neighbouring `stride` may.
    """

    block: tuple[bytes, int]
    """Addresses as bytes, which are hashed sooner."""
    interface: str
    vlan: int
    source: bytes | None
    width: int
    stride: int
    destination: tuple[bytes, int, str]
    target_port: int
    """The destination port, or its offset from the input's port."""
    is_offset: bool


def copy_keys(rule: ResolvedRule, outputs: Iterable[ResolvedOutput]) -> Iterator[CopyKey]:
    """The keys of the copies of some outputs of a rule: for each in turn, one for each sender.

    Outputs whose address is unknown have none.
    """
    senders = rule.senders
    for output in outputs:
        if output.is_resolved:
            yield from (copy_key(rule_input, source, output) for rule_input, source in senders)


def copy_key(rule_input: ResolvedInput, source: Address | None, output: ResolvedOutput) -> CopyKey:
    """The key of an output's copies.

    Args:
        rule_input: the input of the rule.
        source: the sender; None for all senders.
        output: an output of the rule.
    """
    width = rule_input.last_port - rule_input.port + 1
    is_offset = output.last_port > output.port
    return CopyKey(
        block=(rule_input.group.packed, rule_input.group_bits),
        interface=rule_input.device,
        vlan=rule_input.vlan,
        source=None if source is None else source.packed,
        width=width,
        stride=rule_input.port // width,
        destination=(output.address.packed, output.address_bits, output.device),
        target_port=output.port - rule_input.port if is_offset else output.port,
        is_offset=is_offset,
    )

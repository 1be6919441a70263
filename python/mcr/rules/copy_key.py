"""`CopyKey`: equal for two rules that send the same datagram to the same destination.

`proposal` refuses a rule whose copies another rule already sends.
"""

from typing import NamedTuple

from .fields import Address
from .spec import ResolvedInput, ResolvedOutput


class CopyKey(NamedTuple):
    """The copies of one sender's datagrams to one input at one destination.

    Equally specific rules both relay the datagrams that both match, so equal copies are refused.
    Two port ranges of the same width may overlap without beginning at the same port: ranges with
    equal `stride` overlap, ranges with neighbouring `stride` may.
    """

    block: tuple[Address, int]
    interface: str
    vlan: int
    source: Address | None
    width: int
    stride: int
    destination: tuple[Address, int, str]
    target_port: int
    """The destination port, or its offset from the input's port."""
    is_offset: bool


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
        block=(rule_input.group, rule_input.group_bits),
        interface=rule_input.device,
        vlan=rule_input.vlan,
        source=source,
        width=width,
        stride=rule_input.port // width,
        destination=(output.address, output.address_bits, output.device),
        target_port=output.port - rule_input.port if is_offset else output.port,
        is_offset=is_offset,
    )

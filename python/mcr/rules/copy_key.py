"""`CopyKey`: by which two rules are seen to send the same datagram to the same place.

Owns what makes copies the same; who holds which is the business of `proposal`.
"""

from typing import NamedTuple

from .fields import Address
from .spec import ResolvedInput, ResolvedOutput


class CopyKey(NamedTuple):
    """What one sender's datagrams to one input become at one destination.

    Equally specific rules both take what they have in common, so that the same copies of two are
    refused; with ranges as wide as each other that need not begin at the same port, `stride` is
    the same only if they overlap, and is a neighbour's if they may.
    """

    block: tuple[Address, int]
    interface: str
    vlan: int
    source: Address | None
    width: int
    stride: int
    destination: tuple[Address, int, str]
    to_port: int
    """How far it is from the input's port, if it follows that."""
    follows: bool


def copy_key(taken: ResolvedInput, source: Address | None, output: ResolvedOutput) -> CopyKey:
    """What an output makes of the datagrams of one sender, or of any."""
    width = taken.last_port - taken.port + 1
    follows = output.last_port > output.port
    return CopyKey(
        block=(taken.group, taken.group_bits),
        interface=taken.device,
        vlan=taken.vlan,
        source=source,
        width=width,
        stride=taken.port // width,
        destination=(output.address, output.address_bits, output.device),
        to_port=output.port - taken.port if follows else output.port,
        follows=follows,
    )

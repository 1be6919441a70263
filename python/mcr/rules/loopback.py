"""Looped-back copies: which outputs would feed an input of this host, and how to stop them.

AF_PACKET sees nothing that this host sends, except on the loopback interface, where all of it
arrives again. A joined UDP socket hears copies to a group unless their socket has
IP_MULTICAST_LOOP off (ip(7)); a broadcast it always hears (ip_mc_output in the kernel).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

from ..errors import Problem
from .loops import input_flow, meet, output_flow
from .model import Output
from .spec import ResolvedInput, ResolvedOutput

Ingress = Literal["packet", "udp"]


def comes_back(output: ResolvedOutput, ingress: Ingress, loopbacks: Collection[str]) -> bool:
    """Whether inputs hear copies to a group or a broadcast address on the link that they leave by.

    Args:
        output: to a group or a broadcast address.
        ingress: how the inputs listen.
        loopbacks: the names of this host's loopback interfaces.
    """
    if output.device in loopbacks:
        return True
    return ingress == "udp" and (output.loop or not output.address.is_multicast)


def silence(
    outputs: list[ResolvedOutput],
    taken: ResolvedInput,
    written: Sequence[Output],
    loopbacks: Collection[str],
) -> list[Problem]:
    """Switches `loop` off on the ingress `udp` where that is the default, and says so.

    It is where copies go on to the input's own groups and ports: whoever relays the other link's
    datagrams back, this process or another one, would take them for new ones.
    """
    said: dict[Problem, None] = {}
    for at, output in enumerate(outputs):
        chosen = written[output.number - 1].loop
        if chosen is None and output.device not in loopbacks and _goes_on(output, taken):
            outputs[at] = replace(output, loop=False)
            said[Problem(f"output {output.number}, loop", _SILENCED)] = None
    return list(said)


_SILENCED = (
    "is off, since the copies go to the rule's own group and port, and on the ingress 'udp' a rule"
    " for the opposite direction would relay them again; write loop=off to confirm it, or loop=on"
    " if programs on this host receive the copies"
)


def _goes_on(output: ResolvedOutput, taken: ResolvedInput) -> bool:
    """Whether copies go to the groups and ports of the input, by another interface."""
    if not output.address.is_multicast or output.device == taken.device:
        return False
    return meet(output_flow(output)._replace(interface=taken.device), input_flow(taken))

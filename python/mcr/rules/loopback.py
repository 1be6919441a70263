"""Looped-back copies: outputs that would feed an input of this host, and the default of `loop`.

AF_PACKET receives nothing that this host sends, except on the loopback interface, where all of it
arrives again. A joined UDP socket receives copies to a group unless IP_MULTICAST_LOOP is off on the
sending socket (ip(7)); it always receives broadcasts (ip_mc_output in the kernel).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ..choices import Ingress
from ..errors import Problem
from .loops import flows_overlap, input_flow, output_flow
from .output import Output
from .spec import ResolvedInput, ResolvedOutput


def is_looped_back(output: ResolvedOutput, ingress: Ingress, loopbacks: Collection[str]) -> bool:
    """Whether inputs on the output's interface receive its copies.

    Args:
        output: an output to a group or a broadcast address.
        ingress: how the inputs receive.
        loopbacks: the names of this host's loopback interfaces.
    """
    if output.device in loopbacks:
        return True
    return ingress == "udp" and (output.loop or not output.address.is_multicast)


def turn_loop_off(
    new: Mapping[int, list[ResolvedOutput]],
    rule_input: ResolvedInput,
    written: Sequence[Output],
    loopbacks: Collection[str],
) -> list[Problem]:
    """Apply the default `loop=off` of the ingress `udp`; return a warning for each output.

    It applies to outputs whose copies go to the input's own groups and ports on another interface:
    a rule for the reverse direction, in this process or another one, would relay them as new
    datagrams.

    Args:
        new: outputs of a rule, by the places of those that are written; changed in place.
        rule_input: the input of the rule.
        written: all outputs as the rule has them.
        loopbacks: the names of this host's loopback interfaces.
    """
    warnings: dict[Problem, None] = {}
    for place, outputs in new.items():
        for index, output in enumerate(outputs):
            is_open = written[place].loop is None and output.device not in loopbacks
            if is_open and _extends(output, rule_input):
                outputs[index] = replace(output, loop=False)
                warnings[Problem(("output", place + 1, "loop"), _LOOP_OFF)] = None
    return list(warnings)


_LOOP_OFF = (
    "is off, since the copies go to the rule's own group and port, and on the ingress 'udp' a rule"
    " for the opposite direction would relay them again; write loop=off to confirm it, or loop=on"
    " if programs on this host receive the copies"
)


def _extends(output: ResolvedOutput, rule_input: ResolvedInput) -> bool:
    """Whether copies go to the groups and ports of the input, on another interface."""
    if not output.address.is_multicast or output.device == rule_input.device:
        return False
    flow = output_flow(output)._replace(interface=rule_input.device)
    return flows_overlap(flow, input_flow(rule_input))

"""The table of the nodes of a fleet. Pure."""

from collections.abc import Sequence
from typing import Literal, get_args

from ..fleet.fleet_nodes import FleetNode
from .tables import Column, TableContent

NodeOrder = Literal["name", "problem", "loss", "rate"]
NODE_ORDERS: tuple[NodeOrder, ...] = get_args(NodeOrder)
_SENTENCE = 28  # with this many columns a state has its reason
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def nodes_table(nodes: Sequence[FleetNode], empty: str) -> TableContent[FleetNode]:
    """Nodes with their revisions, rules and traffic.

    Args:
        nodes: the nodes to show, in their order.
        empty: what is shown without any.
    """

    def cells(node: FleetNode, widths: Sequence[int]) -> Sequence[str]:
        status = node.status
        traffic = status.traffic if status else None
        return (
            node.name,
            _state(node, widths[1]),
            str(node.wanted),
            "?" if node.applied is None else str(node.applied),
            str(status.rules) if status else "",
            f"{traffic.matched_pps:.0f}" if traffic else "",
            f"{traffic.lost_pps:.0f}" if traffic else "",
            str(traffic.lost) if traffic else "",
            str(traffic.alarms) if traffic else "",
            _age(node.age_s),
        )

    columns = (
        Column("node", 12, share=1),
        Column("state", 11, share=3),
        Column("wanted", 6, is_number=True),
        Column("applied", 7, is_number=True),
        Column("rules", 5, is_number=True),
        Column("in/s", 8, is_number=True),
        Column("lost/s", 6, is_number=True),
        Column("lost", 6, is_number=True),
        Column("alarms", 6, is_number=True),
        Column("age", 4, is_number=True),
    )
    return TableContent(columns, nodes, _name, _name, cells, node_style, empty)


def arranged_nodes(
    nodes: Sequence[FleetNode], order: NodeOrder, text: str, *, only_problems: bool
) -> list[FleetNode]:
    """The nodes whose name, label, state or problem has a text, in any case, in an order."""
    wanted = text.casefold()
    found = [
        each
        for each in nodes
        if (each.has_problem or not only_problems) and (not wanted or _mentions(each, wanted))
    ]
    if order == "problem":
        found.sort(key=lambda each: (each.state == "applied", not each.loses))
    elif order == "loss":
        found.sort(key=lambda each: (-_traffic(each)[1], -_traffic(each)[2]))
    elif order == "rate":
        found.sort(key=lambda each: -_traffic(each)[0])
    return found


def node_style(node: FleetNode) -> str:
    """Red for a node without its rules, and for losses and alarms; yellow for one that is late."""
    if node.loses or node.state not in {"applied", "behind", "no document"}:
        return "red"
    return "yellow" if node.state != "applied" else ""


def node_sums(nodes: Sequence[FleetNode]) -> tuple[float, float, int, int]:
    """What all nodes receive and lose per second, how many alarms they have, and problems."""
    traffic = [each.status.traffic for each in nodes if each.status and each.status.traffic]
    return (
        sum(each.matched_pps for each in traffic),
        sum(each.lost_pps for each in traffic),
        sum(each.alarms for each in traffic),
        sum(each.has_problem for each in nodes),
    )


def _state(node: FleetNode, width: int) -> str:
    problems = node.status.problems if node.status else ()
    return f"{node.state}: {problems[0]}" if problems and width >= _SENTENCE else node.state


def _mentions(node: FleetNode, wanted: str) -> bool:
    status = node.status
    labels = [f"{key}={value}" for key, value in status.labels.items()] if status else []
    texts = (node.name, node.state, *labels, *(status.problems if status else ()))
    return any(wanted in each.casefold() for each in texts)


def _traffic(node: FleetNode) -> tuple[float, float, int]:
    traffic = node.status.traffic if node.status else None
    return (traffic.matched_pps, traffic.lost_pps, traffic.lost) if traffic else (0.0, 0.0, 0)


def _name(node: FleetNode) -> str:
    return node.name


def _age(age_s: float | None) -> str:
    if age_s is None:
        return ""
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m")):
        if age_s >= unit_s:
            return f"{age_s // unit_s:.0f}{unit}"
    return f"{age_s:.0f}s"

"""The screen of one node of a fleet: its state, its documents, and why it refuses them."""

from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Static

from ..fleet.fleet_nodes import FleetNode
from ..protocol.text import printable
from ..rules.model import counted
from .fleet_head import fleet_head
from .fleet_reader import FleetReader
from .node_table import node_style
from .reading_screen import ReadingScreen
from .row_table import RowTable
from .tables import Column, TableContent


class _DocumentRow(NamedTuple):
    name: str
    reported: str
    applied: str


class NodeScreen(ReadingScreen):
    """One node, read each second."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "back")]

    def __init__(self, reader: FleetReader, name: str) -> None:
        """Show a node of a reader."""
        super().__init__()
        self._reader, self._node_name = reader, name
        self._facts = Static(classes="details")
        self._documents = RowTable(_documents_table([]))

    def compose(self) -> ComposeResult:
        """Head, node, and its documents."""
        yield self.head
        yield self._facts
        yield self._documents
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Show what is known already."""
        self._documents.focus()
        self.show_reading()

    def show_head(self) -> None:
        """Show the servers, and the sums of all nodes."""
        self.head.update(fleet_head(self._reader, self.size.width))

    def show_reading(self) -> None:
        """Show what has been read of the node."""
        self.show_head()
        node = self._reader.node(self._node_name)
        if node is None:
            self._facts.update("this node was removed; Escape goes back")
            return
        self._facts.update(_text(node))
        status = node.status
        rows = [
            _DocumentRow(name, text, status.applied.get(name, "-"))
            for name, text in sorted(status.revisions.items() if status else ())
            if status is not None
        ]
        self._documents.show(_documents_table(rows))


def _text(node: FleetNode) -> Text:
    status = node.status
    applied = "an old revision" if node.applied is None else f"revision {node.applied}"
    lines = [
        Text(printable(node.name), style="bold"),
        Text(
            f"{node.state}: has {applied}, should have {node.wanted or 'none'}",
            style=node_style(node),
        ),
    ]
    if status is None:
        return Text("\n").join(lines)
    labels = ", ".join(f"{key}={value}" for key, value in sorted(status.labels.items()))
    lines.append(Text(f"{printable(labels) or 'no labels'}; {counted(status.rules)} wanted"))
    traffic = status.traffic
    if traffic is not None:
        lines.append(
            Text(
                f"in {traffic.matched_pps:.0f}/s, lost {traffic.lost_pps:.0f}/s, {traffic.alarms}"
                f" alarms; matched {traffic.matched}, sent {traffic.sent}, lost {traffic.lost}"
            )
        )
    lines += [Text(printable(each), style="red") for each in status.problems]
    return Text("\n").join(lines)


def _documents_table(rows: list[_DocumentRow]) -> TableContent[_DocumentRow]:
    return TableContent(
        (Column("document", 30, share=1), Column("text reported", 14), Column("text applied", 14)),
        rows,
        lambda row: row.name,
        lambda _: "",
        lambda row, _: row,
        lambda row: "" if row.reported == row.applied else "yellow",
        "no documents",
    )

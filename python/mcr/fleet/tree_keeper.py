"""Plans trees of relays again when nodes die or come back, and writes the documents."""

import asyncio
import time
from collections.abc import Callable, Sequence

from .fleet import Fleet
from .node_presence import NodePresence
from .source import FleetDocument, SourceError
from .status import NodeStatus
from .tree import Parents, TreeError, changed_parents
from .tree_file import TreeFile, plan_trees, tree_documents

_LOOK_S = 1.0
_REPORT_S = 15.0  # in which an agent reports, even if one report is late
_ANSWER_S = 10.0
Trees = tuple[Parents, ...]


class TreeKeeper:
    """Follows the nodes of trees, and keeps the trees whole without those that are dead."""

    def __init__(
        self,
        fleet: Fleet,
        file: TreeFile,
        trees: Trees,
        *,
        dead_after_s: float,
        back_after_s: float,
        save: Callable[[Trees, Sequence[FleetDocument]], None],
        log: Callable[[str], None],
    ) -> None:
        """Ask for nothing yet.

        Args:
            fleet: the fleet, connected.
            file: the nodes of the trees.
            trees: the trees so far.
            dead_after_s: how long a node does not report, or its daemon not answer, until the
                trees are planned without it.
            back_after_s: how long it must report until they are planned with it; see
                `NodePresence`.
            save: called with each plan before it is applied.
            log: called with a sentence about each decision.
        """
        self._fleet, self._file, self._trees = fleet, file, trees
        self._save, self._log = save, log
        self._presence = NodePresence(
            file.nodes, now_s=time.monotonic(), dead_after_s=dead_after_s, back_after_s=back_after_s
        )
        self._planned: frozenset[str] = frozenset(file.nodes)
        """The dead nodes of the last plan; at first all, so that there is one."""
        self._heard: dict[str, tuple[float, float]] = {}
        """Of each node the time in its last report, and when that was read first."""
        self._pause_s = dead_after_s  # so that deaths that come together are few changes
        self._pause_until_s = 0.0
        self._said = ""

    async def run(self) -> None:
        """Apply the trees, and plan again whenever nodes die or come back, until cancelled."""
        while True:
            try:
                await self.look()
            except SourceError as error:
                self._heard.clear()
                self._presence.begin_again(time.monotonic())
                self._say(f"{error}; nothing is planned until the servers answer")
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Judge the nodes, and plan again if others are dead than in the last plan.

        Raises:
            SourceError: the servers do not answer.
        """
        statuses = await self._fleet.nodes()
        now_s = time.monotonic()
        seen = {each.node for each in statuses if self._is_present(each, now_s)}
        dead = self._presence.judge(seen, now_s)
        if dead == self._planned or now_s < self._pause_until_s:
            return
        if 2 * len(dead) > len(self._file.nodes):
            self._say(f"{len(dead)} of {len(self._file.nodes)} nodes are dead; nothing is planned")
            return
        try:
            trees = plan_trees(self._file, self._trees, dead)
        except TreeError as error:
            self._say(f"{', '.join(sorted(dead))}: {error}; nothing is planned")
            return
        await self._apply(trees, dead)
        self._pause_until_s = time.monotonic() + self._pause_s

    async def _apply(self, trees: Trees, dead: frozenset[str]) -> None:
        documents = tree_documents(self._file, trees)
        self._save(trees, documents)
        moved = {
            name
            for before, after in zip(self._trees, trees, strict=False)
            for name in changed_parents(before, after)
        }
        which = f"without {', '.join(sorted(dead))}" if dead else "with all nodes"
        self._say(f"planned {which}: {len(moved - dead)} nodes move")
        plan = await self._fleet.plan(documents)
        result = await self._fleet.apply(plan, timeout_s=_ANSWER_S, absent=dead)
        for node, problems in result.refused.items():
            self._say(f"{node} refused: {'; '.join(problems) or 'no reason'}")
        if result.conflict is not None:
            self._say(result.conflict)
        self._trees = trees
        if result.missing:
            self._say(f"{', '.join(result.missing)}: no answer in {_ANSWER_S:.0f} s")
        if not (result.refused or result.conflict or result.missing or result.left):
            self._planned = dead  # else it is tried again after the pause
            self._say(f"{len(result.written)} documents written, {len(result.applied)} applied")

    def _is_present(self, status: NodeStatus, now_s: float) -> bool:
        """Whether a node has reported lately, by the clock of this host, and its daemon answers."""
        at, heard_s = self._heard.get(status.node, (0.0, now_s))
        if at != status.at:
            heard_s = now_s
            self._heard[status.node] = status.at, now_s
        return now_s - heard_s <= _REPORT_S and status.state != "daemon_unreachable"

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._log(text)

"""The daemon's own configuration: applied at the start, and again when it is loaded anew.

The supervisor reads the files, this process parses them.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ....config.reader import Configuration
from ....errors import ConfigError, McrError, RuleError
from ....log_levels import logger_of
from ....protocol.results import ConfigurationResult, RuleDifference
from ....rules.model import counted
from ...sealed_memfd import sealed_memfd
from ..api.errors import RpcError
from ..supervisor_channel import Config, SupervisorChannel
from .snapshot import read_all
from .transactions import Transactions

_ANSWER_S = 30.0  # for the supervisor to read the files
_NAMED = 5
"""The most rules that the line about a configuration names of each kind."""

_log = logger_of("rules")


class Configurator:
    """Applies the configuration files."""

    def __init__(
        self,
        changes: Transactions,
        supervisor: SupervisorChannel,
        path: str | None,
        options: Mapping[str, Any],
    ) -> None:
        """Apply nothing yet.

        Args:
            changes: changes the rules.
            supervisor: reads the files.
            path: the main file, for messages; None without one.
            options: the settings that the daemon runs with.
        """
        self.path = path
        self.options = options
        self._changes, self._supervisor = changes, supervisor
        self._include: tuple[str, ...] = ()
        self._prune = False
        self._waiting: list[asyncio.Future[ConfigurationResult]] = []

    async def read(self, include: Sequence[str], descriptor: int) -> Configuration | None:
        """Parse files; None if they include others than were read, which are requested then.

        Raises:
            McrError: with all problems of the files themselves.
        """
        configuration = await self._changes.read_files(read_all(descriptor))
        self._include = configuration.include
        if self._include == tuple(include):
            return configuration
        self._request()
        return None

    async def apply(self, configuration: Configuration, *, prune: bool = False) -> None:
        """Make the rules those of the configuration, and say in one line what that changed.

        Raises:
            McrError, RpcError: nothing has changed.
        """
        result = await self._changes.configure(configuration, prune=prune)
        for warning in result.warnings:
            _log.warning("%s", warning)
        _log.info("configuration %s: %s", self.path, _sentence(result))
        self._answer(result)

    async def reload(self, files: Config, descriptors: Sequence[int]) -> None:
        """Apply files that were read again, or leave everything as it is; report the end of it.

        Args:
            files: by which patterns they were read, or why they could not be.
            descriptors: their content, or nothing.
        """
        try:
            if not descriptors:
                raise ConfigError(files.fault or "the configuration cannot be read")
            configuration = await self.read(files.include, descriptors[0])
            if configuration is not None:
                for warning in self._outdated(configuration):
                    _log.warning("%s", warning)
                prune, self._prune = self._prune, False
                await self.apply(configuration, prune=prune)
        except (McrError, RpcError) as error:
            self.fail(error)
        self._supervisor.send_reloaded(files.number)

    def fail(self, error: McrError | RpcError) -> None:
        """Log why nothing has changed, and tell who waits for it."""
        for line in error.problems if isinstance(error, RuleError) else (error,):
            _log.error("%s", line)
        _log.error("the configuration is refused; the rules stay as they were")
        self._prune = False
        self._answer(error)

    async def request(self, *, prune: bool) -> ConfigurationResult:
        """Load the configuration anew; return once it is applied.

        Raises:
            McrError, RpcError: nothing has changed.
        """
        waiting: asyncio.Future[ConfigurationResult]
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._prune |= prune
        self._request()
        try:
            return await asyncio.wait_for(waiting, _ANSWER_S)
        except TimeoutError:
            raise McrError(f"the configuration was not read within {_ANSWER_S:g} s") from None

    def _request(self) -> None:
        patterns = sealed_memfd("\n".join(self._include).encode(), "mcr-include")
        self._supervisor.request_configuration(patterns)

    def _answer(self, outcome: ConfigurationResult | Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.done():
                continue
            if isinstance(outcome, Exception):
                each.set_exception(outcome)
            else:
                each.set_result(outcome)

    def _outdated(self, configuration: Configuration) -> Iterator[str]:
        """Sentences about settings that are fixed while the daemon runs."""
        for name, value in configuration.settings.items():
            if self.options.get(name, value) != value:
                yield (
                    f"{name} is {value!r} in the configuration and {self.options[name]!r} in use:"
                    " an option of the command line wins, or the daemon has to be restarted"
                )


def _sentence(result: ConfigurationResult) -> str:
    parts = [
        _named(result.added, "added"),
        _named(result.changed, "changed"),
        _named(result.removed, "removed"),
        f"{result.unchanged} unchanged" if result.unchanged else "",
    ]
    text = ", ".join(filter(None, parts)) or "no rules"
    for noun, names in (("classes", result.classes), ("rates of", result.interfaces)):
        if names:
            text += f"; {noun} {', '.join(names[:_NAMED])} changed"
    if result.overruled:
        text += f"; {_staying(result.overruled, 'changed at run time')} so"
    if result.beside:
        text += f"; {_staying(result.beside, 'added by clients')}"
    return text


def _staying(ids: Sequence[str], which: str) -> str:
    return f"{counted(len(ids))} {which} {'stays' if len(ids) == 1 else 'stay'}"


def _named(differences: Sequence[RuleDifference], verb: str) -> str:
    if not differences:
        return ""
    names = [each.name or each.id for each in differences[:_NAMED]]
    more = ", ..." if len(differences) > _NAMED else ""
    return f"{len(differences)} {verb} ({', '.join(names)}{more})"

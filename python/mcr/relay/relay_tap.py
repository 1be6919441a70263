"""A tap of a relay in this process."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count

from .._native import RelayCore, interfaces
from ..errors import EngineError, McrError
from ..rules import Rule
from ..taps.filter import TapFilter, encode
from ..taps.names import NamedInterface, Names
from ..taps.rings import TapRings
from ..taps.rules import named_rule

_numbers = count(1)


class RelayTap:
    """What the engines of a relay record."""

    def __init__(
        self,
        core: RelayCore,
        workers: int,
        rules: Sequence[Rule],
        wanted: TapFilter,
        is_over: Callable[[], bool],
    ) -> None:
        """Have the engines record.

        Args:
            core: the relay.
            workers: the number of its engines.
            rules: the rules that the tap takes.
            wanted: what it takes, with the id of its rule.
            is_over: whether the relay has stopped.

        Raises:
            RuleError: there is no such output or reason, or too many taps run.
            McrError: no descriptor is left.
        """
        self._core, self._is_over, self._number = core, is_over, next(_numbers)
        known = [NamedInterface(each.index, each.name) for each in interfaces()]
        self.names = Names.of(known, map(named_rule, rules))
        try:
            self._rings = TapRings(workers, wanted.ring_bytes)
        except OSError as error:  # no descriptor or no memory is left
            raise McrError(f"no capture can begin: {error.strerror}") from None
        try:
            self.readers = self._rings.readers()
            filter_json = encode(wanted.for_engines(wanted.rule))
            core.add_tap(self._number, filter_json, self._rings.descriptors)
        except BaseException:
            self._rings.close()
            raise

    def check(self) -> None:
        """Raise McrError if the relay has stopped."""
        if self._is_over():
            raise McrError("the relay has stopped")

    def close(self) -> None:
        """End the tap. Idempotent."""
        with suppress(EngineError, ValueError):  # the relay has ended
            self._core.remove_tap(self._number)
        self._rings.close()

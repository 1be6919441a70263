"""Classes of traffic and rates of interfaces of a relay, which may change while it relays."""

from ..rules.shaping import InterfaceRate, Shaping, TrafficClass
from .reports import RelayReports


class RelayShaping(RelayReports):
    """The classes of a relay, and the rates they share. All methods are thread-safe."""

    @property
    def shaping(self) -> Shaping:
        """The classes by name, and the rates of interfaces by interface."""
        with self._life.locked():
            return self._rules.shaping

    def set_class(self, traffic_class: TrafficClass) -> None:
        """Define a class, or give one with this name another priority and weight.

        Raises:
            RuleError: there are too many; nothing has changed.
            EngineError: the engine has ended.
        """
        with self._life.locked():
            self._reshape(self._rules.shaping.with_class(traffic_class))

    def remove_class(self, name: str) -> None:
        """Remove a class; ``default`` gets its usual priority and weight instead.

        Raises:
            RuleError: there is none, or a rule is in it; nothing has changed.
            EngineError: the engine has ended.
        """
        with self._life.locked():
            self._reshape(self._rules.shaping.without_class(name))

    def set_interface_rate(self, rate: InterfaceRate) -> None:
        """Bound what all outputs on an interface send together.

        If this host has no such interface yet, `warnings` of the open relay names it.

        Raises:
            RuleError: there are too many; nothing has changed.
            EngineError: the engine has ended.
        """
        with self._life.locked():
            self._reshape(self._rules.shaping.with_rate(rate))

    def remove_interface_rate(self, interface: str) -> None:
        """Let outputs on an interface send any rate again.

        Raises:
            RuleError: it has no rate.
            EngineError: the engine has ended.
        """
        with self._life.locked():
            self._reshape(self._rules.shaping.without_rate(interface))

    def _reshape(self, shaping: Shaping) -> None:
        self._life.check_changeable()
        self._rules.reshape(shaping)

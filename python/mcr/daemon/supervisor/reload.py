"""Reloads: the configuration is read again, or host names are resolved again.

Control applies what is read here. The service manager is notified when a reload begins and when it
is over (RELOADING and READY, sd_notify(3)).
"""

import os
import time

from .config_source import ConfigSource
from .process_manager import ProcessManager
from .service_manager import ServiceManager


class Reload:
    """What is reloaded, and whether control has applied it."""

    def __init__(
        self,
        configuration: ConfigSource | None,
        processes: ProcessManager,
        manager: ServiceManager,
    ) -> None:
        """Reload nothing yet.

        Args:
            configuration: the files; None without, then host names are resolved again.
            processes: has control.
            manager: the service manager.
        """
        self._configuration = configuration
        self._processes = processes
        self._manager = manager
        self._is_notified = False
        self._sent = 0
        self._answered = 0

    def request(self) -> None:
        """Reload, as SIGHUP requests."""
        self._notify()
        if self._configuration is None:
            self._sent += 1
            self._processes.send_to_control("hosts", number=self._sent)
        else:
            self._configuration.reload(self._send_configuration)

    def load(self, patterns: int) -> None:
        """Reload, as control requests; takes ownership of the memory with the include patterns.

        Raises:
            SealedMemfdError: the patterns are invalid.
        """
        if self._configuration is None:
            os.close(patterns)
            return
        self._configuration.follow(patterns)
        self._notify()
        self._configuration.reload(self._send_configuration)

    def answer(self, number: int) -> None:
        """Record that control has applied or refused what was sent with this number."""
        self._answered = max(self._answered, min(number, self._sent))

    def control_ready(self) -> None:
        """Record that a new control process serves, which began with what was read last."""
        self._answered = self._sent

    def check(self) -> None:
        """Notify the service manager if everything that was requested is done."""
        is_reading = self._configuration is not None and self._configuration.is_reading
        if self._is_notified and not is_reading and self._answered == self._sent:
            self._is_notified = False
            if not self._processes.shutting_down:
                self._manager.notify("READY=1")

    def _notify(self) -> None:
        # Each time: with Type=notify-reload only a message that is younger than the manager's
        # request counts (MONOTONIC_USEC).
        if self._processes.was_ready and not self._processes.shutting_down:
            self._is_notified = True
            self._manager.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def _send_configuration(self, fault: str | None) -> None:
        if self._configuration is None:
            return
        try:
            descriptor = None if fault else self._configuration.duplicate()
        except OSError as error:
            descriptor, fault = None, f"the configuration was not reloaded: {error.strerror}"
        self._sent += 1
        include = self._configuration.include
        self._processes.send_to_control(
            "config", descriptor, include=include, fault=fault, number=self._sent
        )

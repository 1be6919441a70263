#!/usr/bin/env bash
# systemd-watchdog 1.0.1 (PyPI) measures by the wall clock how long the last keep-alive is past. When
# that clock is set back, ping() sends nothing until it has caught up: after a step of an hour it is
# silent for an hour, and systemd, which counts on the monotonic clock, ends a service that works, at
# the first timeout. Hosts whose clock comes from PTP or NTP make such a step when they start, when the
# grandmaster changes, and when a wrong source is put right.
# sd_watchdog_enabled(3): the service sends a keep-alive every half of WATCHDOG_USEC; clock_gettime(2):
# CLOCK_REALTIME jumps when somebody sets it, CLOCK_MONOTONIC does not.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Python 3.11 and PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check systemd-watchdog==1.0.1
NOTIFY_SOCKET=$folder/notify WATCHDOG_USEC=400000 "$folder/venv/bin/python" - <<'PYTHON'
import datetime
import os
import socket
import time
from unittest import mock

import systemd_watchdog
from systemd_watchdog import systemd_watchdog as module

SECONDS, TIMEOUT = 2, int(os.environ["WATCHDOG_USEC"]) / 10**6


class ClockSetBack(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) - datetime.timedelta(hours=1)


def count_keep_alives(service, manager):
    end = time.monotonic() + SECONDS
    received = 0
    while time.monotonic() < end:
        service.ping()
        time.sleep(TIMEOUT / 20)
        try:
            received += b"WATCHDOG=1" in manager.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
    return received


with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.bind(os.environ["NOTIFY_SOCKET"])
    service = systemd_watchdog.WatchDog()
    steady = count_keep_alives(service, manager)
    with mock.patch.object(module, "datetime", ClockSetBack):
        set_back = count_keep_alives(service, manager)
print(f"keep-alives in {SECONDS} s with a timeout of {TIMEOUT} s: {steady}")
print(f"in the next {SECONDS} s, after the clock was set back by an hour: {set_back}")
raise SystemExit(not (steady >= SECONDS / TIMEOUT and set_back == 0))
PYTHON

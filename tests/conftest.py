"""Settings for all tests; in CI no test may be skipped."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Generator

import pytest
from hypothesis import settings

CLONE_NEWNET = 0x4000_0000

# How long an example takes says nothing on a machine that does other things beside the tests.
settings.register_profile("mcr", deadline=None)
settings.load_profile("mcr")

# As `mcr` does: without it each process that uses pydantic looks for plugins in all packages.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

# Those that draw on a terminal make one of their own, whatever the tests are run in.
os.environ["TERM"] = "xterm"

# Who runs the tests in the background ignores it, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes a loopback of its own: tests share groups and ports."""
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, make a skipped test fail with the reason."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"in CI nothing may be skipped: {report.longrepr}"
    return report

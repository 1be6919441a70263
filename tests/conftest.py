"""Settings for all tests; in CI no test may be skipped."""

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import settings

# How long an example takes says nothing on a machine that does other things beside the tests.
settings.register_profile("mcr", deadline=None)
settings.load_profile("mcr")

# Those that draw on a terminal make one of their own, whatever the tests are run in.
os.environ["TERM"] = "xterm"

# Who runs the tests in the background ignores it, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, make a skipped test fail with the reason."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"in CI nothing may be skipped: {report.longrepr}"
    return report

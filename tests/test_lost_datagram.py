"""The search of docs/observability.md for a lost datagram finds what the page shows."""

import re
import subprocess

from tests.support.documents import Page, assert_printed, run_in_shell
from tests.topology.daemons import serving

TIMED = re.compile(r"frames for \S+ seen( \d+ s ago)?, matched by the more specific rule feed-a")
"""What `mcr rule list` says depends on how long ago the datagrams came."""

SOURCE = re.compile(r"from \S+,")


def test_the_search_finds_the_cause_and_mends_it() -> None:
    """Each command of the page, in its order, prints what the page shows."""
    page = Page.read("docs/observability.md").section("A lost datagram")
    with serving(None, "--ingress", "udp") as daemon:
        for command, shown in page.sessions():
            done = run_in_shell(command, daemon.socket, errors=subprocess.STDOUT)
            assert done.returncode == 0, done.stdout
            if any(TIMED.search(line) for line in shown):
                assert TIMED.search(done.stdout), done.stdout
            else:
                # The kernel chooses the source by the addresses of this host.
                lines = [SOURCE.sub("from #,", line) for line in shown]
                assert_printed(lines, SOURCE.sub("from #,", done.stdout))
        with daemon.client() as client:
            counts = {rule.name: rule.matched for rule in client.stats().rules}
            assert counts == {"archive": 0, "feed-a": 200, "archive-1": 100}
            assert not client.stats().imbalances()

"""The memory of an idle relay."""

import json
import subprocess
import sys

import pytest

IDLE_MOST_BYTES = 60_000_000
START_MOST_BYTES = 4 * 2**20
PROGRAM = """
import json, re, sys
import mcr

def resident():
    text = open("/proc/self/status").read()
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+)", text)[1])

sizes = {}
with mcr.Relay("239.79.3.1%lo:5079 to 127.0.0.1:7079", ingress="udp", workers=WORKERS) as relay:
    sizes["started"] = resident()
    relay.stats()
relay = mcr.Relay("239.79.3.1%lo:5079 to 127.0.0.1:7079", ingress="udp", workers=WORKERS)
relay.open()
before = resident()
relay.start()
relay.stats()
sizes["by_start"] = resident() - before
relay.close()
print(json.dumps(sizes))
"""


@pytest.mark.parametrize("workers", [1, 4])
def test_an_idle_relay_is_small(workers: int) -> None:
    """Below 60 MB with Python, buffers and counters; unused memory is not touched."""
    program = PROGRAM.replace("WORKERS", str(workers))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    sizes = json.loads(run.stdout)
    assert sizes["started"] < IDLE_MOST_BYTES
    assert sizes["by_start"] < workers * START_MOST_BYTES

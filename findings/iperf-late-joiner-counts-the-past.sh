#!/usr/bin/env bash
# iperf 2.1.8 (Debian 12) as a multicast receiver counts as lost what was sent before it joined. It
# expects the stream to begin with datagram 0, so the first one it gets makes a gap of all earlier
# ones: who joins halfway reads 50 % loss on a link that loses nothing, and the longer the sender
# runs, the worse it looks. The intervals after the first are right; the total stays wrong.
# RFC 3550, appendix A.1, shows the usual way: the first number received is the base.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Debian 12, root, iproute2 and Python 3;
# the traffic stays in a network namespace of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get --quiet=2 --option APT::Sandbox::User=root download iperf=2.1.8+dfsg-1
dpkg-deb --extract iperf_*.deb root
unshare --net sh -eu -c '
ip link add left type veth peer name right
ip link set left up
ip link set right up
ip address add 192.0.2.1/24 dev left
ip route add default dev left
exec python3 -' <<'PYTHON'
import re
import subprocess
import time

GROUP, SECONDS = "239.1.1.1", 4
IPERF = ["root/usr/bin/iperf", "-u", "-l", "500"]


def start(*options):
    return subprocess.Popen([*IPERF, *options], stdout=subprocess.PIPE, text=True)


def count_losses(join_after):
    sender = start("-c", GROUP, "-b", "1M", "-t", str(SECONDS))
    time.sleep(join_after)
    receiver = start("-s", "-B", GROUP, "-i", "1")
    sent = int(re.search(r"Sent (\d+) datagrams", sender.communicate()[0])[1])
    time.sleep(1)
    receiver.terminate()
    report = receiver.communicate()[0]
    counts = [[int(n) for n in pair] for pair in re.findall(r" (\d+)/ *(\d+) \(", report)]
    return sent, counts


sent, counts = count_losses(join_after=SECONDS / 2)
print(f"datagrams sent: {sent}")
for lost, total in counts[:-1]:
    print(f"lost in a second: {lost} of {total}")
(first, _), *others = counts[:-1]
lost, total = counts[-1]
print(f"lost in all: {lost} of {total}")
raise SystemExit(not (lost == first > sent / 4 and all(gap == 0 for gap, _ in others)))
PYTHON

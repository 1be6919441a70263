"""A host on which others' interfaces come and go all the time, as those of containers do."""

import subprocess
from pathlib import Path

from tests.support.deadline import wait_until

from .daemons import serving
from .deaths import Leaves, descriptors, kill
from .lab import Lab
from .relays import Ingress
from .traffic import payloads

PAIRS = 20
GROUPS = [f"239.1.19.{number}" for number in range(1, 21)]


def churn(lab: Lab) -> None:
    """Make and delete interfaces that no rule names."""
    pairs = (f"link add x{n} group 78 type veth peer name y{n} group 78" for n in range(PAIRS))
    command = ["ip", "-n", lab.relay.name, "-batch", "-"]
    lines = "\n".join((*pairs, "link del group 78", ""))
    subprocess.run(command, input=lines, text=True, check=True)


def told_and_unread(pid: int) -> list[tuple[int, int]]:
    """The bytes that wait in each netlink socket of a process, and how many messages it lost."""
    opened = descriptors(pid).values()
    lines = Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return [(int(row[4]), int(row[8])) for row in rows if f"socket:[{row[9]}]" in opened]


def test_a_death_after_churn_costs_no_membership(lab: Lab, ingress: Ingress) -> None:
    """The supervisor has no messages of others' interfaces, which would crowd out what counts.

    When a worker dies then nothing is left, and its queue waits for who comes after it.
    """
    sent = payloads(300, (200,))
    with (
        serving(lab.relay, "--ingress", ingress) as daemon,
        daemon.client() as client,
        lab.receive("239.2.19.1", 6001) as receiver,
        lab.sender(GROUPS[0], 5001) as sender,
    ):
        client.add_rules(
            f"{group}%in0:5001 to 239.2.19.{at}%out0:6001" for at, group in enumerate(GROUPS, 1)
        )
        sender.send(sent[:100])
        receiver.expect(sent[:100])
        with Leaves(lab.source, "s0") as leaves:
            churn(lab)
            assert set(told_and_unread(daemon.supervisor)) == {(0, 0)}
            kill(daemon.workers[0])
            sender.send(sent[100:200])
            wait_until(lambda: client.ping().workers.running == 1)
            sender.send(sent[200:])
            receiver.expect(sent)
            assert leaves.heard(0.1) == set()

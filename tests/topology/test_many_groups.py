"""An interface with more groups than its filter holds, so that any multicast passes."""

from collections.abc import Iterator

import pytest
from tests.support.deadline import wait_until

from .checks import settle
from .lab import Lab
from .namespaces import Net
from .relays import relaying
from .traffic import payloads

GROUPS = {
    "ipv4": [f"239.1.{number // 250}.{number % 250 + 1}" for number in range(1500)],
    "ipv6": [f"ff15::18:{number + 1:x}" for number in range(1500)],
}


@pytest.fixture
def lab(_rights: None) -> Iterator[Lab]:
    """A network whose interfaces may be renamed."""
    with Net() as net:
        yield Lab.build(net)


@pytest.mark.parametrize("family", GROUPS)
@pytest.mark.parametrize("way", ["removed", "renamed"])
def test_a_rule_after_all_were_removed(lab: Lab, family: str, way: str) -> None:
    """It receives its datagrams, although no rule listened for a moment."""
    rule, *others = (
        f"{group}%in0:5001 to 239.2.18.1%out0:{6001 + (at > 0)}"
        for at, group in enumerate(GROUPS[family])
    )
    sent = payloads(20)
    with (
        lab.receive("239.2.18.1", 6001) as receiver,
        relaying(lab.relay, rule, *others, ingress="packet") as relay,
        lab.sender(GROUPS[family][0], 5001) as sender,
    ):
        sender.send(sent)
        receiver.expect(sent)
        with lab.relay:
            if way == "removed":
                relay.replace_rules([])
                relay.add_rule(rule)
            else:
                lab.relay.ip("link", "set", "in0", "down", "name", "away")
                wait_until(lambda: "no interface" in relay.stats().rules[0].state)
                lab.relay.ip("link", "set", "away", "up", "name", "in0")
                wait_until(lambda: relay.stats().rules[0].state.startswith(("joined", "silent")))
        sender.send(sent)
        receiver.expect(sent + sent)
        settle(relay, lambda stats: stats.interfaces[0].matched == 2 * len(sent))

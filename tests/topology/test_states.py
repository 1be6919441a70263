"""The sentence of a rule on real traffic, and what a relay without rights warns of."""

import time
from pathlib import Path

import pytest
from tests.support.deadline import wait_until

from .frames import TPID_8021Q, Flow, Injector, udp_frame
from .lab import Lab
from .relays import Ingress, relaying
from .test_command import NO_CAPABILITIES, RULE, command

CLOCK_S = 0.03
"""How far the coarse clock may be behind."""
RECEIVE_BUFFER_BYTES = 16 * 2**20
SEND_BUFFER_BYTES = 4 * 2**20


def test_the_state_follows_what_arrives(lab: Lab) -> None:
    """Nothing, a wrong port, a wrong source, a wrong VLAN, then the stream."""
    group, output = "239.1.97.1", "239.2.97.1%out0:6001"
    with (
        relaying(
            lab.relay,
            f"{group}%in0:5001 to {output}",
            f"10.1.0.2@239.1.97.2%in0:5001 to {output}",
            ingress="packet",
        ) as relay,
        lab.sender(group, 5002) as astray,
        lab.sender("239.1.97.2", 5001, source=("10.1.0.3", 0)) as stranger,
        lab.sender(group, 5001) as right,
        Injector(lab.source, "s0") as wire,
    ):

        def awaited(number: int, state: str) -> None:
            wait_until(lambda: relay.stats().rules[number].state == state, what=state)

        awaited(0, "joined, no frame seen on in0")
        wire.send(udp_frame(Flow("10.1.0.2", group, 5001), b"seven", tags=((TPID_8021Q, 7),)))
        awaited(0, f"frames for {group} seen, none without a VLAN tag")
        astray.send([b"astray"])
        awaited(0, f"frames seen, none for port 5001 ({group} arrives for port 5002)")
        stranger.send([b"strange"])
        awaited(1, "frames for 239.1.97.2 seen, none from 10.1.0.2 (last from 10.1.0.3)")
        facts = relay.stats().rules[0].facts
        assert (facts.unmatched, facts.unmatched_port, facts.last_seen) == (2, 5002, None)
        assert relay.stats().rules[1].facts.unmatched_source == "10.1.0.3"
        began_s = time.time()
        right.send([b"right"])
        awaited(0, "flowing from 10.1.0.2")
        rule = relay.stats().rules[0]
        assert (rule.state_code, rule.facts.last_source) == ("flowing", "10.1.0.2")
        assert rule.facts.last_seen is not None
        assert began_s - CLOCK_S <= rule.facts.last_seen <= time.time() + CLOCK_S
        wait_until(lambda: relay.stats().rules[0].state_code == "silent")
        assert (relay.stats().rules[0].facts.silent_s or 0) >= 2


def test_the_state_of_a_socket(lab: Lab) -> None:
    """With the udp ingress the kernel keeps the wrong port away: nothing is seen until it flows."""
    with (
        relaying(lab.relay, "239.1.98.1%in0:5001 to 239.2.98.1%out0:6001", ingress="udp") as relay,
        lab.sender("239.1.98.1", 5002) as astray,
        lab.sender("239.1.98.1", 5001) as right,
    ):
        astray.send([b"astray"])
        assert relay.stats().rules[0].state == "joined, no frame seen on in0"
        right.send([b"right"])
        wait_until(lambda: relay.stats().rules[0].state == "flowing from 10.1.0.2")


def test_the_state_omits_past_losses(lab: Lab) -> None:
    """A refusal and a loss appear while they are recent, then in the counters only."""
    rule = "239.1.100.1%in0:5001 to 10.2.0.2:6001 239.2.100.1%out1:6001"
    with (
        relaying(lab.relay, rule, ingress="packet") as by_packet,
        relaying(lab.relay, rule, ingress="udp") as by_socket,
        lab.sender("239.1.100.1", 5001) as sender,
    ):
        relays = (by_packet, by_socket)

        def is_told(text: str) -> bool:
            sender.send([b"datagram"])
            return all(text in relay.stats().rules[0].state for relay in relays)

        refused = "output 1 was refused in the last 5 s: no program listens there, or no such host"
        wait_until(lambda: is_told(refused))
        with lab.relay.down("out1"):
            wait_until(lambda: is_told("output 2 parked"))
            for relay in relays:
                assert relay.stats().rules[0].outputs[0].last_refused is not None
        wait_until(lambda: is_told("output 2 lost copies in the last 5 s: no_carrier"))
        for relay in relays:
            loss = relay.stats().rules[0].outputs[1].last_loss
            assert loss is not None
            assert (loss.reason, loss.errno) == ("no_carrier", None)
        with lab.receive("10.2.0.2", 6001):
            wait_until(
                lambda: (
                    is_told("flowing from 10.1.0.2")
                    and not is_told("in the last 5 s")
                    and not is_told("parked")
                )
            )
        for relay in relays:
            assert relay.stats().rules[0].state == "flowing from 10.1.0.2"
            one, two = relay.stats().rules[0].outputs
            assert one.refused > 0
            assert two.dropped["no_carrier"] > 0


@pytest.mark.parametrize(
    ("sysctl", "wanted_bytes"),
    [("rmem_max", RECEIVE_BUFFER_BYTES), ("wmem_max", SEND_BUFFER_BYTES)],
)
def test_small_buffers_are_warned_of(lab: Lab, sysctl: str, wanted_bytes: int) -> None:
    """Without the right to force buffers, a warning names the sysctl that is too small."""
    arguments = (RULE, "--user", "root", "--json", "--duration", "0.1")
    with command(lab, *arguments, before=NO_CAPABILITIES) as relay:
        relay.wait_ready()
        relay.report()
    limit = int(Path("/proc/sys/net/core", sysctl).read_text())
    assert (f"net.core.{sysctl}" in relay.log) == (limit < wanted_bytes), relay.log


def test_root_needs_no_warning(lab: Lab, ingress: Ingress) -> None:
    """Where the buffers can be forced, whatever the sysctls say, there is nothing to warn of."""
    with relaying(
        lab.relay, "239.1.99.1%in0:5001 to 239.2.99.1%out0:6001", ingress=ingress
    ) as relay:
        assert not [warning for warning in relay.warnings if "mem_max" in warning]

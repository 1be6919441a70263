"""What a relay must not pass on, and under which name it is counted."""

import pytest

from .checks import dropped, settle_sent
from .frames import TPID_8021AD, TPID_8021Q, Flow, Injector, udp_frame
from .lab import Lab
from .relays import Ingress, relaying
from .traffic import payloads

PRIORITY_5 = 5 << 13


def test_source_filter(lab: Lab, ingress: Ingress, gro: bool) -> None:
    """Only the listed source is relayed; what another sends is counted as `source`.

    An unprivileged socket leaves that to the kernel, so the udp ingress never sees it.
    """
    wanted, unwanted = payloads(100, seed=1), payloads(100, seed=2)
    with (
        lab.receive("239.2.10.1", 6001) as receiver,
        relaying(
            lab.relay,
            "10.1.0.2@239.1.10.1%in0:5001 to 239.2.10.1%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.10.1", 5001, source=("10.1.0.2", 0)) as listed,
        lab.sender("239.1.10.1", 5001, source=("10.1.0.3", 0)) as other,
    ):
        (other.send_super if gro else other.send)(unwanted)
        (listed.send_super if gro else listed.send)(wanted)
        receiver.expect(wanted)
        stats = settle_sent(relay, len(wanted))
        refused = len(unwanted) if ingress == "packet" else 0
        assert dropped(stats, "in0", "source") == refused
        assert stats.interfaces[0].received == len(wanted) + refused


def test_several_sources(lab: Lab, ingress: Ingress) -> None:
    """A rule that lists several sources gets all of them, one that lists none gets the rest."""
    first, second, third = (payloads(50, seed=seed) for seed in range(3))
    with (
        lab.receive("239.2.11.1", 6001) as both,
        lab.receive("239.2.11.2", 6001) as rest,
        relaying(
            lab.relay,
            "10.1.0.2+10.1.0.3@239.1.11.1%in0:5001 to 239.2.11.1%out0:6001",
            "239.1.11.1%in0:5001 to 239.2.11.2%out0:6001",
            ingress=ingress,
        ) as relay,
        lab.sender("239.1.11.1", 5001, source=("10.1.0.2", 0)) as one,
        lab.sender("239.1.11.1", 5001, source=("10.1.0.3", 0)) as two,
        lab.sender("239.1.11.1", 5001, source=("10.6.0.2", 0)) as three,
    ):
        one.send(first)
        both.expect(first)
        two.send(second)
        both.expect(first + second)
        three.send(third)
        rest.expect(third)
        settle_sent(relay, len(first) + len(second), len(third))


def test_port_without_a_rule(lab: Lab, gro: bool) -> None:
    """The group is known and the port is not: counted as `no_rule`, nothing sent."""
    with (
        lab.receive("239.2.12.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.12.1%in0:5001 to 239.2.12.1%out0:6001", ingress="packet"
        ) as relay,
        lab.sender("239.1.12.1", 5002) as astray,
        lab.sender("239.1.12.1", 5001) as right,
    ):
        (astray.send_super if gro else astray.send)(payloads(100))
        right.send([b"right"])
        receiver.expect([b"right"])
        stats = settle_sent(relay, 1)
        assert dropped(stats, "in0", "no_rule") == 100


def test_untagged_rule_never_gets_tagged_frames(lab: Lab) -> None:
    """Tagged frames are counted as `vlan`; a priority tag (VID 0) is no tag."""
    flow = Flow("10.1.0.2", "239.1.13.1", 5001)
    with (
        lab.receive("239.2.13.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.13.1%in0:5001 to 239.2.13.1%out0:6001", ingress="packet"
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"seven", tags=((TPID_8021Q, 7),)),
            udp_frame(flow, b"eight", tags=((TPID_8021AD, 8),)),
            udp_frame(flow, b"double", tags=((TPID_8021AD, 8), (TPID_8021Q, 7))),
            udp_frame(flow, b"priority", tags=((TPID_8021Q, PRIORITY_5),)),
            udp_frame(flow, b"untagged"),
        )
        receiver.expect([b"priority", b"untagged"])
        stats = settle_sent(relay, 2)
        assert dropped(stats, "in0", "vlan") == 3


def test_vlan_rule_gets_only_its_vlan(lab: Lab) -> None:
    """A rule with vlan=7 gets VID 7 whatever its priority bits, beside one without a tag."""
    flow = Flow("10.1.0.2", "239.1.14.1", 5001)
    with (
        lab.receive("239.2.14.1", 6001) as seventh,
        lab.receive("239.2.14.2", 6001) as untagged,
        relaying(
            lab.relay,
            "239.1.14.1%in0:5001,vlan=7 to 239.2.14.1%out0:6001",
            "239.1.14.1%in0:5001 to 239.2.14.2%out0:6001",
            ingress="packet",
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"eight", tags=((TPID_8021Q, 8),)),
            udp_frame(flow, b"untagged"),
            udp_frame(flow, b"seven", tags=((TPID_8021Q, 7),)),
            udp_frame(flow, b"seven, priority 5", tags=((TPID_8021Q, 7 | PRIORITY_5),)),
        )
        seventh.expect([b"seven", b"seven, priority 5"])
        untagged.expect([b"untagged"])
        stats = settle_sent(relay, 2, 1)
        assert dropped(stats, "in0", "vlan") == 1


def test_tagged_frames_never_reach_a_socket(lab: Lab) -> None:
    """With the udp ingress the kernel passes no tag, or a priority tag, and nothing else."""
    flow = Flow("10.1.0.2", "239.1.18.1", 5001)
    with (
        lab.receive("239.2.18.1", 6001) as receiver,
        relaying(lab.relay, "239.1.18.1%in0:5001 to 239.2.18.1%out0:6001", ingress="udp") as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"seven", tags=((TPID_8021Q, 7),)),
            udp_frame(flow, b"double", tags=((TPID_8021AD, 8), (TPID_8021Q, 7))),
            udp_frame(flow, b"priority", tags=((TPID_8021Q, PRIORITY_5),)),
            udp_frame(flow, b"untagged"),
        )
        receiver.expect([b"priority", b"untagged"])
        stats = settle_sent(relay, 2)
        assert stats.interfaces[0].received == 2


def test_bad_checksum_is_not_laundered(lab: Lab, gro: bool) -> None:
    """A wrong UDP checksum is dropped and counted, an absent one is relayed."""
    flow = Flow("10.1.0.2", "239.1.15.1", 5001)
    with (
        lab.receive("239.2.15.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.15.1%in0:5001 to 239.2.15.1%out0:6001", ingress="packet"
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"damaged", checksum=0x1234),
            udp_frame(flow, b"absent", checksum=0),
            udp_frame(flow, b"right"),
        )
        receiver.expect([b"absent", b"right"])
        stats = settle_sent(relay, 2)
        assert dropped(stats, "in0", "bad_checksum") == 1


def test_bad_checksums_are_relayed_on_request(lab: Lab, gro: bool) -> None:
    """Without verification a wrong checksum counts as matched; copies have a valid one."""
    flow = Flow("10.1.0.2", "239.1.34.1", 5001)
    bodies = [b"damaged", b"absent", b"fine", b""]
    with (
        lab.receive("239.2.34.1", 6001) as receiver,
        relaying(
            lab.relay,
            "239.1.34.1%in0:5001 to 239.2.34.1%out0:6001",
            ingress="packet",
            verify_checksums=False,
        ) as relay,
        Injector(lab.source, "s0") as injector,
    ):
        injector.send(
            udp_frame(flow, bodies[0], checksum=0x1234),
            udp_frame(flow, bodies[1], checksum=0),
            udp_frame(flow, bodies[2]),
            udp_frame(flow, bodies[3], checksum=0x1234),
        )
        receiver.expect(bodies)
        stats = settle_sent(relay, len(bodies))
        assert stats.interfaces[0].matched == len(bodies)
        assert dropped(stats, "in0", "bad_checksum") == 0


def test_the_kernel_verifies_for_the_udp_ingress(lab: Lab) -> None:
    """Asked to relay wrong checksums, the udp ingress says that it never sees them."""
    rule = "239.1.35.1%in0:5001 to 239.2.35.1%out0:6001"
    with relaying(lab.relay, rule, ingress="udp", verify_checksums=False) as relay:
        assert any("the kernel itself drops" in warning for warning in relay.warnings)


def test_absent_checksum_with_udp_ingress(lab: Lab) -> None:
    """The kernel drops the wrong checksum before a socket sees it and passes the absent one."""
    flow = Flow("10.1.0.2", "239.1.16.1", 5001)
    with (
        lab.receive("239.2.16.1", 6001) as receiver,
        relaying(lab.relay, "239.1.16.1%in0:5001 to 239.2.16.1%out0:6001", ingress="udp") as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"damaged", checksum=0x1234),
            udp_frame(flow, b"absent", checksum=0),
        )
        receiver.expect([b"absent"])
        settle_sent(relay, 1)


@pytest.mark.parametrize(
    ("source", "address", "output"),
    [
        ("10.1.0.2", "239.1.19.1", "239.2.19.1"),
        ("fd01::2", "ff15::19:1", "ff15::19:2"),
        ("10.1.0.2", "10.1.0.1", "239.2.19.2"),
    ],
    ids=["v4", "v6", "unicast"],
)
def test_frames_for_another_host_are_not_relayed(
    lab: Lab, ingress: Ingress, gro: bool, source: str, address: str, output: str
) -> None:
    """On a promiscuous interface, what has another host's MAC address is counted apart."""
    flow = Flow(source, address, 5001)
    own = lab.relay.mac("in0")
    neighbour = bytes.fromhex("020000000077")
    with (
        lab.relay.promiscuous("in0"),
        lab.receive(output, 6001) as receiver,
        relaying(lab.relay, f"{address}%in0:5001 to {output}%out0:6001", ingress=ingress) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(
            udp_frame(flow, b"theirs", mac=neighbour),
            # As a switch or a bridge sends it that turns multicast into unicast.
            udp_frame(flow, b"ours", mac=own),
            udp_frame(flow, b"theirs too", mac=neighbour),
            udp_frame(flow, b"last", mac=own),
        )
        receiver.expect([b"ours", b"last"])
        stats = settle_sent(relay, 2)
        # Before a socket the kernel drops them.
        assert dropped(stats, "in0", "not_for_us") == (2 if ingress == "packet" else 0)


def test_cut_frame_is_counted(lab: Lab) -> None:
    """A frame shorter than its headers say is dropped as `truncated`, never relayed short."""
    flow = Flow("10.1.0.2", "239.1.17.1", 5001)
    with (
        lab.receive("239.2.17.1", 6001) as receiver,
        relaying(
            lab.relay, "239.1.17.1%in0:5001 to 239.2.17.1%out0:6001", ingress="packet"
        ) as relay,
        Injector(lab.source, "s0") as wire,
    ):
        wire.send(udp_frame(flow, bytes(100))[:-1], udp_frame(flow, b"whole"))
        receiver.expect([b"whole"])
        stats = settle_sent(relay, 1)
        assert dropped(stats, "in0", "truncated") == 1

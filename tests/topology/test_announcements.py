"""IPv4 memberships are reported again where a switch may have lost them, without a leave."""

import pytest

from .checks import settle_sent
from .lab import Lab
from .namespaces import Net
from .relays import Ingress, relaying
from .reports import Record, Reports
from .test_command import command
from .test_reports import either
from .traffic import payloads

GROUP, LISTED = "239.1.72.1", "232.1.72.1"
RULES = [
    f"{GROUP}%in0:5001 to 239.2.72.1%out0:6001",
    f"10.1.0.2@{LISTED}%in0:5001 to 239.2.72.2%out0:6001",
    "239.1.73.0/29%in0:5001 to 239.2.73.0/29%out0:6001",
    "ff15::72:1%in0:5001 to 239.2.72.3%out0:6001",
]
# The answers to a query say how it is, and not what has changed (RFC 3376, 4.2.12).
STATE = [
    Record("is_ex", GROUP),
    Record("is_in", LISTED, frozenset({"10.1.0.2"})),
    Record("is_ex", "239.1.73.0"),
    Record("is_ex", "239.1.73.7"),
]


def joins(reports: Reports) -> None:
    """Wait until the joins are reported, twice each, and discard earlier reports."""
    reports.wait_for(Record("to_ex", GROUP), times=2)
    reports.forget()


def nothing_is_left(reports: Reports) -> None:
    """No leave of a group or a source is sent, and the kernel's query stays on its host."""
    assert not reports.hear("0.0.0.0")
    assert not [record for record in reports.all if record.is_leave]


@pytest.mark.parametrize("daemon", [False, True], ids=["relay", "daemon"])
def test_memberships_are_reported_when_the_carrier_returns(
    lab: Lab, ingress: Ingress, *, daemon: bool
) -> None:
    """Twice, since one message may be lost; and rules continue."""
    sent = payloads(10)
    with (
        Reports(lab.source, "s0") as reports,
        lab.receive("239.2.72.1", 6001) as receiver,
        either(lab, ingress, daemon=daemon, rules=RULES) as rules,
    ):
        joins(reports)
        with lab.source.down("s0"):
            pass
        for record in STATE:
            reports.wait_for(record, times=2)
        nothing_is_left(reports)
        with lab.sender(GROUP, 5001) as sender:
            sender.send(sent)
        receiver.expect(sent)
        settle_sent(rules, len(sent), 0, 0, 0)


def test_memberships_are_reported_by_igmpv2(lab: Lab) -> None:
    """Without a leave, where a router speaks IGMPv2."""
    lab.relay.sysctl("net.ipv4.conf.in0.force_igmp_version", 2)
    try:
        with (
            Reports(lab.source, "s0") as reports,
            relaying(lab.relay, *RULES, ingress="packet"),
        ):
            member = Record("member", GROUP)
            reports.wait_for(member)
            before = len(reports.hear(GROUP))
            with lab.source.down("s0"):
                pass
            # The second of the joins may come up to ten seconds late (RFC 2236, 8.10).
            reports.wait_for(member, times=before + 2, seconds=15.0)
            nothing_is_left(reports)
    finally:
        lab.relay.sysctl("net.ipv4.conf.in0.force_igmp_version", 0)


def test_without_rights_the_groups_are_joined_again(lab: Lab, ingress: Ingress) -> None:
    """`mcr relay` has no rights left and cannot query the kernel."""
    with (
        Reports(lab.source, "s0") as reports,
        command(lab, *RULES, "--ingress", ingress, "--json") as relay,
    ):
        relay.wait_ready()
        joins(reports)
        with lab.source.down("s0"):
            pass
        reports.wait_for(Record("to_ex", GROUP))
        reports.wait_for(Record("allow", LISTED, frozenset({"10.1.0.2"})))
        reports.wait_for(Record("to_ex", "239.1.73.7"))
        nothing_is_left(reports)


def test_memberships_are_reported_to_a_new_port_of_a_bridge(
    lab: Lab, net: Net, ingress: Ingress
) -> None:
    """For groups joined on the bridge, and on a macvlan above it."""
    relay, source = lab.relay, net.namespace()
    relay.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    relay.ip("link", "add", "mv0", "link", "br0", "type", "macvlan")
    try:
        for number in (1, 2):
            net.link(source, f"far{number}", relay, f"port{number}")
        relay.ip("link", "set", "port1", "master", "br0")
        relay.set_up("br0", up=True)
        relay.set_up("mv0", up=True)
        rules = [
            "239.1.72.8%br0:5001 to 239.2.72.8%out0:6001",
            "239.1.72.9%mv0:5001 to 239.2.72.9%out0:6001",
        ]
        with (
            Reports(source, "far1") as old,
            relaying(relay, *rules, ingress=ingress),
            Reports(source, "far2") as new,
        ):
            old.wait_for(Record("to_ex", "239.1.72.9"), times=2)
            relay.ip("link", "set", "port2", "master", "br0")
            for reports in (new, old):
                reports.wait_for(Record("is_ex", "239.1.72.8"))
                reports.wait_for(Record("is_ex", "239.1.72.9"))
                nothing_is_left(reports)
    finally:
        relay.ip("link", "del", "br0")
        source.ip("link", "del", "far1")
        source.ip("link", "del", "far2")

"""Checks of GRO, by which the kernel merges the datagrams of an input.

A bridge, bond, VLAN or macvlan gets what the cards below it have received, so it is set there.
Pure functions, as in `checks`.
"""

from collections.abc import Iterator

from .facts import Device, Facts
from .finding import Finding

_GAIN = (
    "so that datagrams arrive one by one: with it one core relays about twice as much of a stream"
)


def check_merging(facts: Facts, device: Device) -> Iterator[Finding]:
    """Yield findings about the interfaces that receive for an input: others, or itself.

    With the ingress `udp` datagrams are merged only on interfaces that stand on others.
    """
    stands_on_others = device.card_elsewhere or bool(device.cards)
    if device.loopback or not (facts.packet_sockets or stands_on_others):
        return
    own = () if device.card_elsewhere else (device.name,)
    for name in device.cards or own:
        card = facts.devices.get(name)
        if card is not None:
            yield from _card(card, device)
    if device.card_elsewhere:
        yield Finding(
            "gro-below",
            "advice",
            f"the card below {device.name} is in another network namespace, where mcr cannot ask"
            f" the kernel to merge: run 'ethtool -K CARD gro on rx-udp-gro-forwarding on' there,"
            " so that one core relays about twice as much of a stream",
            device.name,
        )


def check_port(facts: Facts, device: Device) -> Iterator[Finding]:
    """Yield a finding if the input is a port of a bridge or bond, which receives its frames."""
    master, name = device.receiving_master, device.name
    if master is None:
        return
    belongs = f"{name} belongs to {master}, a bridge or bond, which takes what arrives there"
    if facts.packet_sockets:
        text = (
            f"{belongs}: the ingress 'packet' receives it too, but the network's queries for"
            f" members reach {master} alone, so that switches forget the groups joined on {name};"
            f" name {master} as the input"
        )
        yield Finding("port", "advice", text, name)
        return
    text = f"{belongs}: the ingress 'udp' receives nothing; name {master} as the input"
    yield Finding("port", "problem", text, name)


def _card(card: Device, device: Device) -> Iterator[Finding]:
    name = card.name
    place = f", which receives for {device.name}" if card is not device else ""
    if not card.gro:
        fix = f"ethtool -K {name} gro on"
        yield Finding("gro", "advice", f"GRO is off on {name}{place}, {_GAIN}", name, fix)
        return
    yield Finding("gro", "ok", f"{name}{place and place + ','} has GRO on", name)
    if card.gro_forwarding is None:
        return
    # It merges datagrams without a socket on this host; mcr opens one for each of its streams.
    state = "on" if card.gro_forwarding else "off"
    text = f"rx-udp-gro-forwarding is {state} on {name}, which makes no difference to mcr"
    yield Finding("gro-forwarding", "ok", text, name)

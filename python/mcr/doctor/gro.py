"""Whether the kernel merges the datagrams of an input (GRO), and where that is switched.

Owns what is judged of interfaces that stand on others: a bridge, a bond, a VLAN or a macvlan gets
what the cards below it have received. Pure, as `checks`.
"""

from collections.abc import Iterator

from .facts import Device, Facts
from .finding import Finding

_GAIN = (
    "so that datagrams arrive one by one: with it one core relays about twice as much of a stream"
)


def check_merging(facts: Facts, device: Device) -> Iterator[Finding]:
    """Look at the interfaces that receive for an input's one: at itself, if no other does.

    The ingress `udp` has datagrams merged only on an interface that stands on others.
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
            f" the kernel to merge: 'ethtool -K CARD gro on rx-udp-gro-forwarding on' there does"
            " it, and one core relays about twice as much of a stream",
            device.name,
        )


def check_port(facts: Facts, device: Device) -> Iterator[Finding]:
    """Say who takes what arrives at an input's interface, if that is a bridge or a bond."""
    master, name = device.receiving_master, device.name
    if master is None:
        return
    belongs = f"{name} belongs to {master}, a bridge or bond, which takes what arrives there"
    if facts.packet_sockets:
        text = f"{belongs}: the ingress 'packet' hears it, but the network's queries for members"
        text += (
            f" reach {master} alone, so that switches forget the groups that are joined on {name}"
        )
        yield Finding("port", "advice", f"{text}; name {master} as the input", name)
        return
    text = f"{belongs}: the ingress 'udp' hears nothing; name {master} as the input"
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
    # It merges what no socket of this host is for: mcr opens one for each of its streams.
    state = "on" if card.gro_forwarding else "off"
    text = f"rx-udp-gro-forwarding is {state} on {name}, which makes no difference to mcr"
    yield Finding("gro-forwarding", "ok", text, name)

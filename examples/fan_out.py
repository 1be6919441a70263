"""One stream to more and fewer outputs: rules are added and removed under traffic.

Runs on the loopback interface with a generated stream, and needs no rights. Outputs that a change
does not concern lose no datagram.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor

import mcr

RATE_PPS = 1000
GROUP, PORT = "239.77.1.1", 5077


def main() -> None:
    """Start with one output, add a second under traffic, remove it again."""
    parser = argparse.ArgumentParser(description="Change the outputs of a stream while it runs.")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of the whole run")
    phase_s = parser.parse_args().seconds / 3

    stream = mcr.Input(GROUP, PORT, interface="lo")
    always = mcr.Rule(stream, [mcr.Output("239.77.2.1", 6077, interface="lo")], name="always")
    guest = mcr.Rule(stream, [mcr.Output("127.0.0.1", 7077, ttl=8)], name="guest")

    with (
        mcr.Relay(always, ingress="udp") as relay,
        mcr.Sender(f"{GROUP}%lo:{PORT}", rate_pps=RATE_PPS) as sender,
        ThreadPoolExecutor() as threads,
    ):
        sending = threads.submit(sender.send, duration_s=3 * phase_s)

        relay.wait(timeout_s=phase_s)
        show("one output", relay.stats())

        relay.add_rule(guest)
        relay.wait(timeout_s=phase_s)
        show("a guest has joined", relay.stats())

        relay.remove_rule(guest)
        relay.wait(timeout_s=phase_s)
        sent = sending.result().sent
        show("the guest has left", relay.stats())
        print(f"{sent} datagrams were generated")


def show(title: str, stats: mcr.Stats) -> None:
    """Print one line for each output."""
    print(f"{title}:")
    for rule in stats.rules:
        for output in rule.outputs:
            print(f"  {rule.name} to {output.output}: {output.sent} sent, {output.lost} lost")


if __name__ == "__main__":
    main()

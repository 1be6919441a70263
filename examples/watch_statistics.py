"""Prints the counters of a running relay every second, and checks that they add up.

Half of the generated datagrams go to a port without a rule, to show the drop reason `no_rule` (on
the `packet` ingress; a `udp` socket never receives them). Runs on loopback.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor

import mcr

RATE_PPS = 500
INTERVAL_S = 1.0


def main() -> None:
    """Print a line per interval, then what the interfaces dropped and why."""
    parser = argparse.ArgumentParser(description="Watch the counters of a relay.")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to watch")
    seconds = parser.parse_args().seconds

    with (
        mcr.Relay("239.78.1.1%lo:5078 to 239.78.2.1%lo:6078 127.0.0.1:7078") as relay,
        mcr.Sender("239.78.1.1%lo:5078", rate_pps=RATE_PPS) as wanted,
        mcr.Sender("239.78.1.1%lo:5079", rate_pps=RATE_PPS) as stray,
        ThreadPoolExecutor() as threads,
    ):
        sending = [threads.submit(sender.send, duration_s=seconds) for sender in (wanted, stray)]
        before = relay.stats()
        while not all(future.done() for future in sending):
            relay.wait(timeout_s=min(INTERVAL_S, seconds))
            stats = relay.stats()
            rates = stats.rates_since(before)
            for rule in stats.rules:
                rate = rates[rule.id]
                mbit = rate.matched_bits_per_s / 1e6
                print(f"{rule.state}: {rate.matched_pps:.0f} datagrams/s, {mbit:.1f} Mbit/s")
            before = stats

        last = relay.stats()

    for interface in last.interfaces:
        reasons = {reason: count for reason, count in interface.dropped.items() if count}
        print(f"{interface.name}: {interface.received} received, dropped {reasons or 'nothing'}")
    print(*last.imbalances() or ["every datagram is accounted for"], sep="\n")


if __name__ == "__main__":
    main()

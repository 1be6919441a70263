"""Relays one stream and reports its counters at the end.

    python examples/one_stream.py "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"

Without a rule it relays on the loopback interface, for example what `mcr send 239.1.1.1%lo:5001`
sends. Ctrl-C ends it.
"""

import argparse
import contextlib
import sys

import mcr


def main() -> None:
    """Relay for the given time, or until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Relay one stream.")
    parser.add_argument("rule", nargs="?", default="239.1.1.1%lo:5001 to 239.2.0.1%lo:6001")
    parser.add_argument("--ingress", choices=["auto", "packet", "udp"], default="auto")
    parser.add_argument("--seconds", type=float, help="end after this many seconds")
    arguments = parser.parse_args()

    with mcr.Relay(arguments.rule, ingress=arguments.ingress) as relay:
        print(f"relaying by the {relay.ingress} ingress: {relay.rules[0]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            relay.wait(timeout_s=arguments.seconds)  # raises if the engine failed
        stats = relay.stats()

    for rule in stats.rules:
        print(f"{rule.state}; {rule.matched} datagrams")
        for output in rule.outputs:
            print(f"  {output.output}: {output.sent} sent, {output.lost} lost")


if __name__ == "__main__":
    try:
        main()
    except mcr.McrError as error:  # a wrong rule, a missing right: show the user the message
        sys.exit(f"one_stream: {error}")

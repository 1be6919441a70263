"""Relays one stream and says at the end what came of it.

    python examples/one_stream.py "239.1.1.1%eth0:5001 to 239.2.0.1%eth1:6001"

Without a rule it relays on the loopback interface; `mcr send 239.1.1.1%lo:5001` gives it something
to do. Ctrl-C ends it.
"""

import argparse
import contextlib
import sys

import mcr


def main() -> None:
    """Relay until the time is over or the user has seen enough."""
    parser = argparse.ArgumentParser(description="Relay one stream.")
    parser.add_argument("rule", nargs="?", default="239.1.1.1%lo:5001 to 239.2.0.1%lo:6001")
    parser.add_argument("--ingress", choices=["auto", "packet", "udp"], default="auto")
    parser.add_argument("--seconds", type=float, help="end after this time")
    arguments = parser.parse_args()

    with mcr.Relay(arguments.rule, ingress=arguments.ingress) as relay:
        print(f"relaying by the {relay.ingress} ingress: {relay.rules[0]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            relay.wait(timeout_s=arguments.seconds)  # raises what stopped the engine, if it failed
        stats = relay.stats()

    for rule in stats.rules:
        print(f"{rule.state}; {rule.matched} datagrams")
        for output in rule.outputs:
            print(f"  {output.output}: {output.sent} sent, {output.lost} lost")


if __name__ == "__main__":
    try:
        main()
    except mcr.McrError as error:  # a wrong rule, a missing right: the text is for the user
        sys.exit(f"one_stream: {error}")

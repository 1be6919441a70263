"""Adds a rule to a running daemon, prints its events for a while, and removes the rule.

    mcr serve &
    python examples/daemon.py

The daemon keeps running when this program ends. Ctrl-C ends the program early.
"""

import argparse
import contextlib
import sys
import time

import mcr

RULE = "239.79.1.1%lo:5079,name=example to 239.79.2.1%lo:6079 127.0.0.1:7079"


def main() -> None:
    """Print events, then the state of the rule, after the given time."""
    parser = argparse.ArgumentParser(description="Talk to a daemon.")
    parser.add_argument(
        "--socket", help="the daemon's socket; by default that of this user's daemon"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to watch")
    arguments = parser.parse_args()

    with (
        mcr.Client(arguments.socket) as client,
        client.events() as events,
        contextlib.suppress(KeyboardInterrupt),
    ):
        hello = client.hello()
        print(f"{hello.server}, process {hello.pid}, {hello.workers} workers, {hello.ingress}")
        change = client.add_rule(RULE)
        print(f"revision {change.revision}")
        try:
            watch(events, time.monotonic() + arguments.seconds)
            report(client)
        finally:
            client.remove_rule(change.added[0])


def watch(events: mcr.EventStream, deadline_s: float) -> None:
    """Print each event until the deadline."""
    while (left_s := deadline_s - time.monotonic()) > 0:
        event = events.read(left_s)
        if event is not None:
            print(f"event {event.sequence}: {event.text}", flush=True)


def report(client: mcr.Client) -> None:
    """Print the state and the counters of the rule."""
    for rule in client.stats(["example"]).rules:
        print(f"{rule.state}; {rule.matched} datagrams")
        for output in rule.outputs:
            print(f"  {output.output}: {output.sent} sent, {output.lost} lost")


if __name__ == "__main__":
    try:
        main()
    except mcr.McrError as error:  # no daemon, a refused rule: show the user the message
        sys.exit(f"daemon: {error}")

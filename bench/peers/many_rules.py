"""A relay of many rules that are changed one by one while one flow goes through, untouched.

usage: many_rules.py RULES CHANGES_PER_S RULE

RULE is the flow's; beside it run RULES idle ones, from rx0 to tx0. In turn one of them is removed
and added again, CHANGES_PER_S times a second (0: none is touched). Ends on SIGTERM and then prints
how many changes there were, and how long one took, in milliseconds.
"""

import signal
import sys
import time
from collections.abc import Sequence
from statistics import median

import mcr

GROUPS_IN_A_BLOCK = 250


def main(arguments: Sequence[str]) -> None:
    """Run until SIGTERM."""
    count, changes_per_s, flow = int(arguments[0]), float(arguments[1]), arguments[2]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    idle = [mcr.Rule.parse(_idle_rule(number)) for number in range(count)]
    took_ms: list[float] = []
    start_s = time.monotonic()
    with mcr.Relay(flow, *idle, ingress="packet") as relay:
        print(f"{count} rules in {time.monotonic() - start_s:.2f} s", flush=True)
        try:
            _change(relay, idle, changes_per_s, took_ms)
        finally:
            if took_ms:
                worst = max(took_ms)
                print(f"{len(took_ms)} changes, {median(took_ms):.2f} ms, at most {worst:.2f} ms")


def _change(
    relay: mcr.Relay, idle: Sequence[mcr.Rule], changes_per_s: float, took_ms: list[float]
) -> None:
    if changes_per_s == 0:
        relay.wait()
    due_s = time.monotonic()
    for number in range(sys.maxsize):
        rule = idle[number // 2 % len(idle)]
        before_s = time.monotonic()
        if number % 2 == 0:
            relay.remove_rule(rule)
        else:
            relay.add_rule(rule)
        took_ms.append(1000 * (time.monotonic() - before_s))
        due_s += 1 / changes_per_s
        time.sleep(max(0, due_s - time.monotonic()))


def _idle_rule(number: int) -> str:
    place = f"{number // GROUPS_IN_A_BLOCK}.{number % GROUPS_IN_A_BLOCK}"
    return f"239.100.{place}%rx0:5001 to 239.200.{place}%tx0:6001"


if __name__ == "__main__":
    main(sys.argv[1:])

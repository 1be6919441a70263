"""`make topologies`: run every shape and print one table; exit code 1 if one has failed."""

import sys
import time

from .namespaces import remove_leftovers
from .rights import missing
from .shapes import ALL, Shape, run


def row(shape: Shape) -> tuple[str, bool]:
    """Run a shape; return its row of the table and whether everything arrived."""
    began_s = time.monotonic()
    try:
        outcome = run(shape)
    except AssertionError as error:
        return f"{shape.name:<20} FAILED: {error}", False
    numbers = (outcome.relays, outcome.sent, outcome.copies, outcome.received)
    cells = "".join(f"{number:>10}" for number in numbers)
    return f"{shape.name:<20}{cells}{time.monotonic() - began_s:>9.1f} s  ok", True


def main() -> int:
    """Print a row as each shape ends."""
    if reason := missing():
        print(f"the topologies need namespaces: {reason}", file=sys.stderr)
        return 1
    remove_leftovers()
    heads = ("relays", "sent", "copies", "received")
    print(f"{'topology':<20}{''.join(f'{head:>10}' for head in heads)}{'time':>11}")
    whole = True
    for shape in ALL:
        text, good = row(shape)
        print(text, flush=True)
        whole &= good
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

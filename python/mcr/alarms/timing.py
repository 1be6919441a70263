"""The times by which alarms and losses become events."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Times in seconds, as docs/observability.md states them."""

    grace_s: float = 3.0
    """A rule that is new, enabled or changed is not judged before, as joining takes a while."""
    hold_s: float = 2.0
    """A rate is below, or the senders are others, for this long before it is an alarm."""
    clear_s: float = 3.0
    """An alarm ends when the expectation has been met for this long."""
    pause_s: float = 1.0
    """A rule without a datagram for this long is in a pause: only its silence is judged."""
    senders_s: float = 3.0
    """A sender counts while its last datagram is younger; a change of senders takes less."""
    leg_s: float = 2.0
    """An input of a merge is down when nothing arrives for this long while another delivers."""
    summary_s: float = 60.0
    """The interval of events about a loss that continues."""
    loss_end_s: float = 10.0
    """A loss ends when nothing has been lost for this long."""
    loop_end_s: float = 10.0
    """A loop ends when no payload has come back for this long."""
    source_s: float = 60.0
    """The shortest interval of events about the changing sender of a rule."""

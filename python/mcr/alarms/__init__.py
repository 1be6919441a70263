"""Alarms and losses as events: what two readings of the counters say about rules.

Pure, but for the clock that callers pass. `monitor` is the only module that a relay or a daemon
uses; `expectations`, `losses` and `sources` each find one kind of event, `budget` limits their
number.
"""

"""Limits on the memory and time that clients of `mcr web` can take."""

CONNECTIONS = 128
"""Open connections. For one more, the one that waits longest without a request is closed."""

REQUEST_S = 10.0
"""The time for a complete request, and between requests, in seconds."""

STALL_S = 20.0
"""How long a client may read nothing of its pending answer, in seconds."""

HEAD_BYTES = 16 << 10
"""The longest head of a request."""

FORM_BYTES = 4096
"""The longest body of a request: the form of the login."""

ANSWERS = 16
"""Answers in progress at a time; others wait."""

ANSWER_WAIT_S = 5.0
"""How long a request waits for its turn before it gets status 503, in seconds."""

PIECE_BYTES = 64 << 10
"""An answer is sent in pieces of this size, so that a slow client buffers one of them."""

STREAMS = 32
"""Open streams of events."""

STREAM_MESSAGES = 256
"""Messages that one stream has not sent yet; the oldest give way, and are reported as a gap."""

KEEP_ALIVE_S = 15.0
"""A comment is sent on a stream without messages for this long, in seconds."""

EVENTS = 500
"""The latest events that are kept."""

SAMPLES = 300
"""Samples of the rates that are kept: ten minutes, one every two seconds."""

SAMPLED_RULES = 10_000
"""Rules of which samples are kept, 16 bytes each."""

FLOWS = 500
"""Flows of one rule that the page lists."""

PAGE_ROWS = 500
"""The most rows of a table in one answer."""

METRIC_RULES = 1000
"""Rules that have metrics of their own, by default; --metric-rules sets it."""

METRIC_OUTPUTS_PER_RULE = 4
"""Outputs with metrics, as a multiple of the limit of rules."""

METRIC_FLOWS = 500
"""Flows that have metrics of their own: those with the most datagrams."""

FINDINGS_S = 60.0
"""How long the findings about a rule or the host are reused, in seconds."""

FINDINGS_KEPT = 64
"""Rules of which findings are kept."""

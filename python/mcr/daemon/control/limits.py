"""Limits on the memory and time that one client, or all clients together, can take from control.

A client above a limit gets a protocol error, or its connection is closed. The limits that clients
need too, such as the longest line and the length of the replay, are in `mcr.protocol.constants`.
"""

CONNECTIONS = 256
"""Open connections. For one more, the connection that has been idle the longest is closed."""

REQUESTS_WAITING = 64
"""Queued lines of one connection; with this many, control stops reading from it."""

AHEAD_BYTES = 256 << 10
"""Bytes of one connection behind the current request; above, control stops reading from it."""

HALF_LINE_S = 30.0
"""The time limit for an incomplete line, in seconds."""

UNREAD_BYTES = 32 << 20
"""Answers and events that one client has not read, in bytes."""

UNREAD_S = 30.0
"""How long a client may read none of its pending output, in seconds."""

INPUT_BYTES = 256 << 20
"""Lines of all clients together; above, the connection with the most bytes is closed."""

OUTPUT_BYTES = 256 << 20
"""Unread answers of all clients together; above, the connection with the most bytes is closed."""

BATCH_REQUESTS = 100
"""Requests in one batch."""

LINE_VALUES = 300_000
"""Commas and brackets in a line: parsing more would delay other clients by over 100 ms."""

BIG_LINE_BYTES = 32 << 10
"""Longer lines are parsed one after the other, with shorter ones served in between."""

ID_CHARS = 256
"""The longest string as the id of a request: the answer repeats it."""

REQUEST_RULES = 50_000
"""Rules in one request."""

EDIT_OUTPUTS = 1000
"""Outputs of each kind in one edit of a rule."""

OUTPUT_CHARS = 512
"""The text of an output in an edit."""

PROBLEMS = 1000
"""Problems in one answer."""

MESSAGE_CHARS = 500
"""The length at which a message that quotes a client is truncated."""

SUBSCRIBER_EVENTS = 2048
"""Queued events of one subscriber; later ones are dropped and reported as a gap."""

EVENT_AHEAD_BYTES = 256 << 10
"""Unread output of a subscriber; above, its events are queued."""

KEPT_BYTES = 64 << 20
"""The largest snapshot of the rules that the supervisor keeps."""

FRAME_BYTES = 32 << 20
"""The longest message to or from a worker."""

WORKER_VALUES = 1_000_000
"""Commas and brackets in a message of a worker: parsing this many takes about 300 ms."""

WORKER_EVENTS = 20_000
"""A burst of unrequested messages of a worker: all links of a large host, several times."""

WORKER_EVENTS_A_SECOND = 1000
"""Unrequested messages in the long run; a worker that sends more is restarted."""

HOST_LOOKUPS = 4
"""Concurrent look-ups of host names in clients' requests, each in a thread."""

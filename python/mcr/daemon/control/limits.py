"""Limits: the memory and time that one client, or all together, can take from control.

Owns the numbers and the reasons for them. Beyond each stands an error of the protocol, or the end
of the connection. The longest line and the length of the replay are known to clients too: `daemon`.
"""

CONNECTIONS = 256
"""Beyond, the one that has been idle the longest makes room, if there is one."""

REQUESTS_WAITING = 64
"""Whole lines of one connection that wait for their turn; beyond, it is read no further."""

AHEAD_BYTES = 256 << 10
"""What one connection sends ahead of the request being served, before it is read no further."""

HALF_LINE_S = 30.0
"""How old half a line may become, in seconds."""

UNREAD_BYTES = 32 << 20
"""Answers and events that one client has not read, in bytes."""

UNREAD_S = 30.0
"""How long a client may read nothing of what waits for it, in seconds."""

INPUT_BYTES = 256 << 20
"""Lines of all clients together; beyond, the connection that holds the most is closed."""

OUTPUT_BYTES = 256 << 20
"""Unread answers of all clients together; beyond, the connection that holds the most is closed."""

BATCH_REQUESTS = 100
"""Requests in one array."""

LINE_VALUES = 300_000
"""Commas and brackets in a line: with more, reading it would hold up others for 100 ms."""

BIG_LINE_BYTES = 32 << 10
"""A longer line is read in turn with other long ones, and others come between."""

ID_CHARS = 256
"""The longest text that may be a request's id: it comes back in the answer."""

REQUEST_RULES = 50_000
"""Rules in one request."""

PROBLEMS = 1000
"""Problems in one answer."""

MESSAGE_CHARS = 500
"""Of a sentence that quotes a client, before it is cut."""

SUBSCRIBER_EVENTS = 2048
"""Events that wait for one subscriber; later ones become a gap, which it is told of."""

EVENT_AHEAD_BYTES = 256 << 10
"""Unread output of a subscriber beyond which its events wait."""

KEPT_BYTES = 64 << 20
"""The longest snapshot of the rules: the supervisor keeps no longer one."""

FRAME_BYTES = 32 << 20
"""The longest message to or from a worker."""

REPORT_RULES = 500
"""A worker tells the counters of at most so many rules in one message."""

WORKER_VALUES = 1_000_000
"""Commas and brackets in a message of a worker: reading so many takes some 300 ms."""

WORKER_EVENTS = 20_000
"""What a worker may tell by itself at once: all links of a large host, several times."""

WORKER_EVENTS_A_SECOND = 1000
"""And for long; one that tells more is none of ours, and is restarted."""

HOST_LOOKUPS = 4
"""Clients' host names that are looked up at the same time, each by a thread."""

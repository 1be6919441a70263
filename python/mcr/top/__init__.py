"""`mcr top`: a full-screen view of a daemon, which it reads through its socket.

The only user of textual (extra `top`); `reader`, `trend` and `tables` work without it.
"""

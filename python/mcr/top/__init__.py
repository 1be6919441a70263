"""`mcr top` and `mcr fleet top`: full-screen views of a daemon, and of the nodes of a fleet.

The only user of textual (extra `top`); readers, `trend` and tables work without it.
"""

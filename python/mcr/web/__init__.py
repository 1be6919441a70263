"""`mcr web`: metrics, read-only JSON and a page about a daemon, over HTTP.

A client of the daemon's socket in an unprivileged process of its own: the daemon serves no HTTP.
Nothing here changes rules. Needs the extra `web`; nothing else in the package imports it.
"""

"""Peers side by side: mcr beside other relays, on the same machine, in alternating runs.

Owns its own namespaces, traffic and sinks. Must not know anything about mcr but its command line:
mcr is one peer among others, started as a process.
"""

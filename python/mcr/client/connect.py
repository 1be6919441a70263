"""The socket of a daemon: connecting to it, and whom to trust at its other end.

Knows nothing of what is said.
"""

"""The rules of the daemon, and their changes."""

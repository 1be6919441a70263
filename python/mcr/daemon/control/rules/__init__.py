"""The rules of the daemon, and how they change."""

"""`mcr web` as a process, in front of real daemons on loopback."""

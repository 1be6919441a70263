"""A multicast relay for Linux that can say where a lost datagram went."""

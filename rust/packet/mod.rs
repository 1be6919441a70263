//! Frames to datagrams: Ethernet, VLAN tags, IPv4, IPv6 and UDP, without a copy.

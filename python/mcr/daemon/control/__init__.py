"""The control process of the daemon: serves clients, and gives the workers their rules.

It has no privileges, and only these sockets: the Unix socket for clients, the channel to the
supervisor and a channel to each worker. All it sees of datagrams is the workers' counters.
"""

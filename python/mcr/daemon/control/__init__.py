"""The control process of the daemon: it serves clients, and tells the workers what to relay.

It has no rights and no sockets but a Unix socket for clients, a channel to the supervisor and a
channel to each worker. What it knows of datagrams is what workers count.
"""

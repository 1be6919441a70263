"""The control protocol: JSON-RPC over a Unix socket."""

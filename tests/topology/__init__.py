"""Tests in network namespaces: real sockets, real links, an independent sender and receiver."""

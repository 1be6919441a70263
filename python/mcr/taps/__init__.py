"""Captures and traces: what relays record of datagrams and copies for a program that watches."""

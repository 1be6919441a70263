"""Tests of what talks to a daemon: both clients, and the commands."""

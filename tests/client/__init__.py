"""Tests of the daemon's clients and of the commands that use them."""

"""Test doubles, strategies and helpers that tests share."""

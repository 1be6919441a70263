"""A relay that runs in this process."""

from .relay import Relay

__all__ = ["Relay"]

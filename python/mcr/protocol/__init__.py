"""Constants and results that the daemon and its clients share."""

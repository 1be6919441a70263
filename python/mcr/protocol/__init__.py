"""What the daemon and its clients share: constants, and results as frozen values."""

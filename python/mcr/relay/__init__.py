"""The relay that runs in this process, and the settings that it shares with the daemon."""

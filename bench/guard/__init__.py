"""The guard: how many instructions a fixed amount of relaying takes, compared with what it took."""

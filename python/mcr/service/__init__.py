"""mcr as a service of systemd: its files, and their installation."""

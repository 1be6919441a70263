"""The daemon: a privileged supervisor, and the control process that serves clients."""

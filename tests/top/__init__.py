"""`mcr top`: its screens with a client that answers at once, and with real daemons."""

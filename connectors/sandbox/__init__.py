"""All five vendors on loopback, with a side door to look, to break things and to reset. See README.md."""

"""How layers become a root file system: the interface, and the drivers behind it."""

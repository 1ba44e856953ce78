"""How a process becomes a container: the interface, and the drivers behind it."""

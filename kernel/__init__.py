"""System calls, cgroups, capabilities and filters that Python's `os` lacks; knows nobody."""

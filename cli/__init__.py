"""The command line: one module per command, and a quick start."""

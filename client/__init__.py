"""The client's side: `http` for the command line, `remote` for scripts that talk to a daemon."""

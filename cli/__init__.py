"""The command line. Client commands start fast: no trio, no h11, no msgspec, no engine."""

"""Who we are, in one place: the package, the daemon and the command line read it here."""

VERSION = "0.1.0"
API_VERSION = "1.51"
MIN_API_VERSION = "1.24"

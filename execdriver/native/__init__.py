"""The native driver: windlass-shim starts and watches the container, Python decides what that means."""

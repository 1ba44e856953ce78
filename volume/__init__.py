"""Named volumes and binds."""

"""Images: their records, tags, layers, and the archives that they come in."""

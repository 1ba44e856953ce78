"""Images from and to registries."""

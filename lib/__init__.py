"""Small pure helpers that know nobody."""

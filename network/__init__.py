"""Bridges, veths, addresses and published ports."""

"""Ditto's files and speech network as engine objects."""

"""LongCat's files and speech networks as engine objects."""

"""Measures talking videos: readers turn frames into numbers per frame, metrics turn those into scores."""

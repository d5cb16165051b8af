"""Drawn people for training: seeded, in three styles, in 2.5 dimensions. `figure.Figure` draws them."""

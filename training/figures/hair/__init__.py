"""Styles of hair, and what covers it: `cuts.build` makes them, `paint` draws them."""

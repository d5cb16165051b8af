"""Landmarks of a portrait's face, from the outputs of free networks. The networks themselves are not here."""

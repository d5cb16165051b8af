"""Ditto: a portrait that speaks, from a motion diffusion and LivePortrait's renderer. Pure torch, no ComfyUI."""

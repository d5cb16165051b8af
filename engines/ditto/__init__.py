"""Ditto: a portrait that talks, from speech by way of motion. Pure torch, no ComfyUI."""

"""PersonaLive: a portrait that follows a driving video, four frames at a time. Pure torch, no ComfyUI."""

"""Conversations with an avatar: it hears, thinks and answers. Knows no ComfyUI and no engine."""

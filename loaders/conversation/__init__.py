"""Ears, a mind and a voice in this process, for conversations without a server."""

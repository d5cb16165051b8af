"""ComfyUI-LiveAvatar: portraits that talk, generated block by block."""

from __future__ import annotations

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Entry point of ComfyUI's V3 node interface; the nodes are imported only when a host asks for them."""
    from .nodes import LiveAvatarExtension

    return LiveAvatarExtension()

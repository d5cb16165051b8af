"""Avatars for many people on many machines: sessions without ComfyUI, shared out by Ray Serve.

Ray's processes import these modules by their own names, so they call the pack by its name, ``avatar``.
"""

import tools.pack  # noqa: F401  (registers the package `avatar`)

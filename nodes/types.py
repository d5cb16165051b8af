"""Types of the edges between our nodes, beside ComfyUI's own."""

from __future__ import annotations

from comfy_api.latest import io

AvatarStreamType = io.Custom("AVATAR_STREAM")
"""`media.frames.AvatarStream`: a video that is generated while it is consumed, of every engine."""
AvatarSpeech = io.Custom("AVATAR_SPEECH")
"""`media.speech.Speech` or `LiveSpeech`: the sound of one or two people, to which each engine listens by itself."""
AvatarDecoder = io.Custom("AVATAR_DECODER")
"""`loaders.wan.fast_decoder.HostDecoder`: a small decoder in place of the VAE's."""
AvatarPerformance = io.Custom("AVATAR_PERFORMANCE")
"""`engines.parts.planning.plan.Wish`: the parts of a plan that the user fixes."""
LongCatType = io.Custom("LONGCAT")
"""`loaders.longcat.model.LongCatModel`: a transformer of LongCat-Video-Avatar with its LoRAs."""
PersonaLiveType = io.Custom("PERSONALIVE")
"""`loaders.personalive.host_objects.ManagedPersonaLive`: all networks of PersonaLive."""
PortraitType = io.Custom("PERSONALIVE_PORTRAIT")
"""`engines.personalive.pipeline.Portrait`: a portrait as the networks know it."""
MotionType = io.Custom("PERSONALIVE_MOTION")
"""`sessions.personalive.Driving`: a motion with the frame rate and the sound of its video."""

"""Types of the edges between our nodes, beside ComfyUI's own."""

from __future__ import annotations

from comfy_api.latest import io

AvatarStreamType = io.Custom("AVATAR_STREAM")
"""`media.frames.AvatarStream`: a video that is generated while it is consumed, of every engine."""
AvatarSpeech = io.Custom("AVATAR_SPEECH")
"""`media.speech.Speech` or `LiveSpeech`: the sound of one or two people, to which each engine listens by itself."""
AvatarDecoder = io.Custom("AVATAR_DECODER")
"""`loaders.wan.fast_decoder.HostDecoder`: a small decoder in place of the VAE's."""
AvatarMoods = io.Custom("AVATAR_MOODS")
"""`loaders.liveavatar.moods.Mood` in a tuple: further prompts of a video, between which its blocks switch."""
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
AvatarMind = io.Custom("AVATAR_MIND")
"""`conversation.roles.Mind`: a language model."""
AvatarVoice = io.Custom("AVATAR_VOICE")
"""`conversation.roles.Voice`: a voice for sentences."""
AvatarEars = io.Custom("AVATAR_EARS")
"""`conversation.roles.Ears`: speech to text."""
BackgroundRemoval = io.Custom("BACKGROUND_REMOVAL")
"""The host's own type, which older hosts lack: a model that sees where the person is."""
DittoType = io.Custom("DITTO")
"""`loaders.ditto.host_objects.ManagedDitto`: all networks of Ditto."""
DittoPortraitType = io.Custom("DITTO_PORTRAIT")
"""`engines.ditto.pipeline.Source`: a portrait or a source video as the networks know it."""
DittoLookType = io.Custom("DITTO_LOOK")
"""`sessions.ditto_look.Look`: how the person behaves."""

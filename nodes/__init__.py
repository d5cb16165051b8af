"""The pack's nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..loaders import folders
from . import routes
from .condition import (
    LiveAvatarEncodeSpeech,
    LiveAvatarPoseVideo,
    LiveAvatarReferenceImage,
    LiveAvatarSpeakerMasks,
)
from .fast_decoder import LiveAvatarLoadFastDecoder
from .installed import refuse_second_copy
from .live_speech import LiveAvatarLiveSpeech
from .load import LiveAvatarApplyLora, LiveAvatarLoadCheckpoint
from .performance import LiveAvatarPerformanceOptions
from .personalive import PersonaLiveLoadModel, PersonaLivePortrait
from .personalive_animate import PersonaLiveAnimate
from .personalive_motion import PersonaLiveExtractMotion, PersonaLiveLoadMotion, PersonaLiveSaveMotion
from .sample import LiveAvatarSampler
from .speech_file import LiveAvatarLoadSpeechFile
from .stream import LiveAvatarStreamToFrames, LiveAvatarStreamToVideo


class LiveAvatarExtension(ComfyExtension):
    """Registers the model folder and the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        refuse_second_copy(LiveAvatarSampler)
        folders.register()  # not in on_load, which ComfyUI 0.3.75 does not call
        routes.register()
        return [
            LiveAvatarLoadCheckpoint,
            LiveAvatarApplyLora,
            LiveAvatarLoadSpeechFile,
            LiveAvatarEncodeSpeech,
            LiveAvatarLiveSpeech,
            LiveAvatarReferenceImage,
            LiveAvatarPoseVideo,
            LiveAvatarSpeakerMasks,
            LiveAvatarPerformanceOptions,
            LiveAvatarLoadFastDecoder,
            LiveAvatarSampler,
            LiveAvatarStreamToVideo,
            LiveAvatarStreamToFrames,
            PersonaLiveLoadModel,
            PersonaLivePortrait,
            PersonaLiveExtractMotion,
            PersonaLiveSaveMotion,
            PersonaLiveLoadMotion,
            PersonaLiveAnimate,
        ]

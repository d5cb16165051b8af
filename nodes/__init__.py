"""The nodes of the pack, as ComfyUI is told of them."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..loaders.liveavatar import folders
from ..serving import live as routes
from .evaluation import AvatarMeasureStream, AvatarMeasureVideo
from .examples import install_examples
from .installed import refuse_second_copy
from .liveavatar.condition import (
    LiveAvatarEncodeSpeech,
    LiveAvatarPoseVideo,
    LiveAvatarReferenceImage,
    LiveAvatarSpeakerMasks,
)
from .liveavatar.fast_decoder import LiveAvatarLoadFastDecoder
from .liveavatar.live_speech import LiveAvatarLiveSpeech
from .liveavatar.load import LiveAvatarApplyLora, LiveAvatarLoadCheckpoint
from .liveavatar.performance import LiveAvatarPerformanceOptions
from .liveavatar.sample import LiveAvatarSampler
from .liveavatar.speech_file import LiveAvatarLoadSpeechFile
from .longcat.load import LongCatApplyLora, LongCatLoadModel
from .longcat.sample import LongCatSampler
from .longcat.scene import LongCatContinueVideo, LongCatReferenceImage
from .personalive.animate import PersonaLiveAnimate
from .personalive.load import PersonaLiveLoadModel, PersonaLivePortrait
from .personalive.motion import PersonaLiveExtractMotion, PersonaLiveLoadMotion, PersonaLiveSaveMotion
from .stream import AvatarStreamToFrames, AvatarStreamToVideo


class LiveAvatarExtension(ComfyExtension):
    """Registers the model folder, the routes, the example files and the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        refuse_second_copy(LiveAvatarSampler)
        folders.register()  # not in on_load, which ComfyUI 0.3.75 does not call
        routes.register()
        install_examples()
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
            AvatarStreamToVideo,
            AvatarStreamToFrames,
            AvatarMeasureStream,
            AvatarMeasureVideo,
            LongCatLoadModel,
            LongCatApplyLora,
            LongCatReferenceImage,
            LongCatContinueVideo,
            LongCatSampler,
            PersonaLiveLoadModel,
            PersonaLivePortrait,
            PersonaLiveExtractMotion,
            PersonaLiveSaveMotion,
            PersonaLiveLoadMotion,
            PersonaLiveAnimate,
        ]

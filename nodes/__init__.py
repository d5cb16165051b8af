"""The nodes of the pack, as ComfyUI is told of them."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..loaders.conversation import files as conversation_files
from ..loaders.liveavatar import folders
from ..serving import generate as generate_routes
from ..serving import live as routes
from .background import AvatarBackground
from .batch import AvatarBatch
from .conversation.here import AvatarEarsHere, AvatarLanguageModelHere, AvatarVoiceHere
from .conversation.send import AvatarSendSpeech
from .conversation.services import AvatarEarsNode, AvatarLanguageModel, AvatarVoiceNode
from .conversation.talk import AvatarConversation, AvatarConversationRealtime
from .conversation.text import AvatarAnswer, AvatarListen, AvatarSay
from .ditto.animate import DittoAnimate, DittoControls
from .ditto.load import DittoLoadModel, DittoPortrait
from .evaluation import AvatarMeasureStream, AvatarMeasureVideo
from .examples import install_examples
from .installed import refuse_second_copy, tell_of_mismatches
from .liveavatar.condition import (
    LiveAvatarEncodeSpeech,
    LiveAvatarPoseVideo,
    LiveAvatarReferenceImage,
    LiveAvatarSpeakerMasks,
)
from .liveavatar.fast_decoder import LiveAvatarLoadFastDecoder
from .liveavatar.live_speech import LiveAvatarLiveSpeech
from .liveavatar.load import LiveAvatarApplyLora, LiveAvatarLoadCheckpoint
from .liveavatar.mood import LiveAvatarMood
from .liveavatar.performance import LiveAvatarPerformanceOptions
from .liveavatar.prompt import LiveAvatarPromptPreset
from .liveavatar.sample import LiveAvatarSampler
from .liveavatar.speech_file import LiveAvatarLoadSpeechFile
from .longcat.load import LongCatApplyLora, LongCatLoadModel
from .longcat.sample import LongCatSampler
from .longcat.scene import LongCatContinueVideo, LongCatReferenceImage
from .personalive.animate import PersonaLiveAnimate
from .personalive.gestures import PersonaLiveBlendMotions, PersonaLiveChainMotions, PersonaLiveHeadGesture
from .personalive.load import PersonaLiveLoadModel, PersonaLivePortrait
from .personalive.motion import PersonaLiveExtractMotion, PersonaLiveLoadMotion, PersonaLiveSaveMotion
from .portrait import AvatarPreparePortrait
from .stream import AvatarStreamToFrames, AvatarStreamToVideo


class LiveAvatarExtension(ComfyExtension):
    """Registers the model folder, the routes, the example files and the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        refuse_second_copy(LiveAvatarSampler)
        tell_of_mismatches()
        conversation_files.register()
        folders.register()  # not in on_load, which ComfyUI 0.3.75 does not call
        routes.register()
        generate_routes.register()
        install_examples()
        return [
            AvatarPreparePortrait,
            LiveAvatarLoadCheckpoint,
            LiveAvatarApplyLora,
            LiveAvatarLoadSpeechFile,
            LiveAvatarEncodeSpeech,
            LiveAvatarLiveSpeech,
            LiveAvatarReferenceImage,
            LiveAvatarPoseVideo,
            LiveAvatarSpeakerMasks,
            LiveAvatarPromptPreset,
            LiveAvatarMood,
            LiveAvatarPerformanceOptions,
            LiveAvatarLoadFastDecoder,
            LiveAvatarSampler,
            AvatarBackground,
            AvatarStreamToVideo,
            AvatarStreamToFrames,
            AvatarBatch,
            AvatarLanguageModel,
            AvatarVoiceNode,
            AvatarEarsNode,
            AvatarLanguageModelHere,
            AvatarVoiceHere,
            AvatarEarsHere,
            AvatarConversation,
            AvatarConversationRealtime,
            AvatarSay,
            AvatarListen,
            AvatarAnswer,
            AvatarSendSpeech,
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
            PersonaLiveHeadGesture,
            PersonaLiveChainMotions,
            PersonaLiveBlendMotions,
            PersonaLiveAnimate,
            DittoLoadModel,
            DittoPortrait,
            DittoControls,
            DittoAnimate,
        ]

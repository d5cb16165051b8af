"""Nodes that prepare the avatar's look, speech and movement."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ...engines.liveavatar.condition import encode_pose, encode_reference
from ...engines.liveavatar.config import FPS, SIZE_MULTIPLE
from ...host.progress import check_interrupt, show_text
from ...loaders.liveavatar.conditioning import picture_size, with_pose, with_reference
from ...loaders.liveavatar.speech import check_encoder
from ...loaders.longcat.encoders import is_longcats
from ...loaders.wan.vae import is_small, vae_from_host
from ...media.portrait import check_size, fit_size, is_drawn, prepare_portrait, resample_fps, resize_frames
from ...media.speech import Speech, assign_masks
from ..schema import Node, schema
from ..types import AvatarSpeech

PHOTOGRAPH = (
    "Choose the real model for this picture: the tiny talker knows drawn faces only, and it looks like a "
    "photograph."
)
ENCODER_TIP = (
    "LiveAvatar hears with it: wav2vec2-large-xlsr-53-english, ours or the host's. For LongCat that of its loader. "
    "Ditto has its own; leave it empty there."
)


class LiveAvatarEncodeSpeech(Node):
    """Takes the speech that the sampler listens to."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarEncodeSpeech",
            search_aliases=["audio to lips", "wav2vec", "lip sync", "voice"],
            display_name="LiveAvatar Encode Speech",
            description=(
                "Takes the speech of one or two people, at any sample rate, mono or stereo. LiveAvatar, LongCat and "
                "Ditto hear in it how the lips move; the video keeps the original sound. Silence gives an "
                "avatar that waits."
            ),
            inputs=[
                io.AudioEncoder.Input("audio_encoder", optional=True, tooltip=ENCODER_TIP),
                io.Audio.Input("audio", tooltip="Speech of the person, or of the first of two."),
                io.Audio.Input(
                    "audio_2",
                    optional=True,
                    tooltip="Speech of a second person in the picture; needs LiveAvatar Speaker Masks.",
                ),
            ],
            outputs=[AvatarSpeech.Output(display_name="speech")],
        )

    @classmethod
    def execute(cls, audio, audio_encoder=None, audio_2=None) -> io.NodeOutput:
        audios = [audio] if audio_2 is None else [audio, audio_2]
        speech = Speech.of(audios, audio_encoder)
        if audio_encoder is not None and not is_longcats(audio_encoder):
            check_encoder(speech)  # said where it is connected, and before larger models are loaded
        return io.NodeOutput(speech)


class LiveAvatarSpeakerMasks(Node):
    """Says which part of the picture belongs to which speaker."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarSpeakerMasks",
            search_aliases=["two people", "conversation", "multi speaker"],
            display_name="LiveAvatar Speaker Masks",
            description=(
                "Says which part of the picture belongs to which of two speakers. Masks may be single pictures or, "
                "for people who move, 25 per second. Draw them on the prepared image of LiveAvatar Reference Image."
            ),
            inputs=[
                AvatarSpeech.Input("speech", tooltip="Speech of two people."),
                io.Mask.Input("mask", tooltip="Where the person of the first audio is."),
                io.Mask.Input("mask_2", tooltip="Where the person of the second audio is."),
            ],
            outputs=[AvatarSpeech.Output(display_name="speech")],
        )

    @classmethod
    def execute(cls, speech, mask, mask_2) -> io.NodeOutput:
        return io.NodeOutput(assign_masks(speech, [mask, mask_2]))


class LiveAvatarReferenceImage(Node):
    """Prepares and encodes the portrait."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarReferenceImage",
            search_aliases=["portrait", "face", "avatar image"],
            display_name="LiveAvatar Reference Image",
            description=(
                "Fits a portrait to the video's size, encodes it and adds it to the prompt. By default the picture "
                "keeps its shape and the video has about as many pixels as width x height."
            ),
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt says what the person does, and where."),
                io.Vae.Input("vae", tooltip="Wan 2.1's VAE."),
                io.Image.Input("image", tooltip="One portrait; the face should be well visible."),
                io.Combo.Input(
                    "size",
                    options=["fit to area", "exact"],
                    tooltip=(
                        "fit to area: keep the picture's shape, at most width x height pixels, sides rounded to "
                        f"multiples of {SIZE_MULTIPLE}, never enlarged. exact: crop to width x height."
                    ),
                ),
                io.Int.Input(
                    "width", default=704, min=64, max=2048, step=SIZE_MULTIPLE, tooltip="In pixels."
                ),
                io.Int.Input(
                    "height", default=384, min=64, max=2048, step=SIZE_MULTIPLE, tooltip="In pixels."
                ),
                io.Combo.Input(
                    "history",
                    options=["streaming", "settled"],
                    tooltip=(
                        "Number of still frames that are encoded as the past of the video. streaming: 73, as in the "
                        "reference implementation when it streams. settled: 365, as on a single GPU; slower."
                    ),
                    optional=True,
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Image.Output(display_name="prepared image"),
                io.Int.Output(display_name="width"),
                io.Int.Output(display_name="height"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls, positive, vae, image, size: str, width: int, height: int, history: str = "streaming"
    ) -> io.NodeOutput:
        if size == "exact":
            check_size(height, width)
        else:
            height, width = fit_size(image.shape[1], image.shape[2], width * height)
        prepared = prepare_portrait(image, height, width)
        wan_vae = vae_from_host(vae).load()
        said = [f"{width} x {height}"]
        if is_small(wan_vae) and not is_drawn(image):
            said.append(PHOTOGRAPH)
        show_text("\n".join(said), cls.hidden)
        pixels = prepared.permute(0, 3, 1, 2)[:, :, None] * 2 - 1
        reference, motion = encode_reference(wan_vae, pixels, settled=history == "settled")
        positive = with_reference(positive, wan_vae, reference, motion)
        return io.NodeOutput(positive, prepared, width, height, ui=ui.PreviewImage(prepared, cls=cls))


class LiveAvatarPoseVideo(Node):
    """Takes body movement from a video of poses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarPoseVideo",
            search_aliases=["dwpose", "skeleton", "body movement"],
            display_name="LiveAvatar Pose Video",
            description=(
                "Lets a video of poses (a skeleton on black, as DWPose draws it) guide the body. When it ends before "
                "the speech does, its last pose is held."
            ),
            inputs=[
                io.Conditioning.Input("positive", tooltip="From LiveAvatar Reference Image."),
                io.Vae.Input("vae", tooltip="Wan 2.1's VAE."),
                io.Image.Input("frames", tooltip="The pose video's frames."),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="The pose video's frame rate; it is brought to 25 without changing its speed.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="positive")],
        )

    @classmethod
    def execute(cls, positive, vae, frames, fps: float) -> io.NodeOutput:
        height, width = picture_size(positive)
        indices = resample_fps(len(frames), fps, FPS)
        resized = resize_frames(frames, height, width, indices)
        wan_vae = vae_from_host(vae).load()
        pose = encode_pose(wan_vae, resized.permute(3, 0, 1, 2)[None] * 2 - 1, check_interrupt)
        return io.NodeOutput(with_pose(positive, wan_vae, pose))

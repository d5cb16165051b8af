"""What the shipped workflows say about themselves, and where their models are."""

from __future__ import annotations

REPACKAGED = "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
REPACKAGED_2_1 = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
LORA = "https://huggingface.co/Quark-Vision/Live-Avatar/resolve/main/liveavatar.safetensors"

MODELS = {
    "wan2.2_s2v_14B_bf16.safetensors": ("diffusion_models", REPACKAGED),
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": ("text_encoders", REPACKAGED_2_1),
    "wan_2.1_vae.safetensors": ("vae", REPACKAGED_2_1),
    "wav2vec2_large_english_fp16.safetensors": ("audio_encoders", REPACKAGED),
    "liveavatar.safetensors": ("loras", LORA),
    "lighttaew2_1.safetensors": (
        "vae_approx",
        "https://huggingface.co/lightx2v/Autoencoders/resolve/main/lighttaew2_1.safetensors",
    ),
}
"""Folder and address of every single file that a workflow names; a page offers to download those that are missing."""

NEEDS = """**Needs:** an NVIDIA GPU of 16 GiB or more, and 47 GB on the disk.

**A minute of video takes** about 175 s with 16 GiB, 99 s with 24 GiB, 70 to 87 s with 80 GB or more (704x384, \
measured on an H200 whose memory was limited; a smaller card computes more slowly). The first run loads the model as \
well, for a minute or two."""

MODEL = """**Model:** tick *download* in Load Checkpoint (45 GB, and 1.4 GB for the LoRA), or put the folders into \
`models/liveavatar`. To try the workflow without it, choose *tiny talker (shipped)* as checkpoint and as LoRA, and \
192 x 192 pixels; it knows drawn faces only."""

YOURS = """**Change:** picture, speech and prompt (green). Those that are chosen come with the pack."""

SAVED = """**Result:** the node at the end plays the video while it is made. The file grows in `output/video`, is \
playable at every moment, and is gone on with when the run is stopped and queued again."""


def _note(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *parts])


DEMO = _note(
    "Start here: no download, any computer",
    "Press **Run**. A drawn portrait says a sentence.",
    "**Needs:** nothing. The *tiny talker* comes with the pack (16 MB) and also runs without a GPU: 12 s of video took "
    "19 s on two CPU cores.",
    "**Change:** the speech (green). The tiny talker knows drawn faces like its three examples; for photographs open "
    "*liveavatar_core*, which has the same nodes and the real model.",
    SAVED,
)
CORE = _note("Talking portrait", NEEDS, MODEL, YOURS, SAVED)
APP = _note(
    "Talking portrait, as an app",
    "In pages that have an app mode this opens as a form: portrait, speech, prompt, Run. In older "
    "pages it is an ordinary workflow.",
    NEEDS,
    MODEL,
)
VIDEO_HELPER_SUITE = _note(
    "Talking portrait, with Video Combine",
    "**Needs also:** the pack ComfyUI-VideoHelperSuite, which writes the video in many formats. Frames are made one "
    "block at a time while it writes. Without that pack take *liveavatar_core*.",
    NEEDS,
    MODEL,
    YOURS,
)
REAL_TIME = _note(
    "As fast as it is spoken",
    "**Needs:** a GPU like the H200, where this made 31.5 frames per second (25 are real time) with 42 GB: fp8, "
    "attention in 8 bits, 3 steps, a small decoder. Pictures are a little softer.",
    "**Fast decoder:** `lighttaew2_1.safetensors` in `models/vae_approx`.",
    MODEL,
    YOURS,
    SAVED,
)
HOST_LOADERS = _note(
    "With ComfyUI's own loaders",
    "For the single files of ComfyUI's own S2V template. The page offers those that are missing; the folders are "
    "`diffusion_models`, `loras`, `text_encoders`, `vae` and `audio_encoders`.",
    f"**Smaller model files:** [fp8, 16 GB]({REPACKAGED}/diffusion_models/wan2.2_s2v_14B_fp8_scaled.safetensors) in "
    "the same node, or [GGUF](https://huggingface.co/QuantStack/Wan2.2-S2V-14B-GGUF) by *Unet Loader (GGUF)* of "
    "ComfyUI-GGUF in its place.",
    "**LoRA:** always by Apply LoRA of this pack: general LoRA loaders apply it twice as strong.",
    NEEDS,
    YOURS,
    SAVED,
)
TWO_SPEAKERS = _note(
    "Two people, two voices",
    "**Change:** picture and both sounds (green). Each sound is as long as the whole talk and silent while the other "
    "person speaks. The masks halve the picture; for other places draw them on the prepared image.",
    NEEDS,
    MODEL,
    SAVED,
)
POSE_VIDEO = _note(
    "Body movement from a pose video",
    "**Change:** picture, speech, and the pose video: a skeleton on black, as DWPose draws it. When it ends before the "
    "speech does, its last pose is held.",
    NEEDS,
    MODEL,
    SAVED,
)
LIVE_SPEECH = _note(
    "Speech that arrives while the video is made",
    "Press **Run**, then speak: the microphone button of Live Speech sends what you say. Programs post sound to the "
    "address that the node shows. While nobody speaks the person waits.",
    "**Needs:** a GPU that makes 25 frames per second for a conversation; see *liveavatar_real_time* for the settings.",
    MODEL,
    SAVED,
)
_LONGCAT = (
    "**Needs:** an NVIDIA GPU. Of the 32 GB of the model as much as does not fit waits in CPU memory; the node shows "
    "the plan. Speed and memory of the real weights have not been measured.",
    "**Model:** tick *download* in Load Model (38 GB; `base_model_int8`: 22 GB), or put the folders of "
    "[LongCat-Video-Avatar-1.5](https://huggingface.co/meituan-longcat/LongCat-Video-Avatar-1.5) into "
    "`models/longcat/LongCat-Video-Avatar-1.5`. Text encoder and VAE are those of ComfyUI's Wan templates; the page "
    "offers them.",
)
LONGCAT = _note(
    "LongCat: a portrait speaks",
    "Photographs and drawings, whole bodies too, at 480p or 720p and for any length. For one's own words in the "
    "picture disconnect the image: then the prompt alone says what is seen.",
    *_LONGCAT,
    YOURS,
    SAVED,
)
LONGCAT_TWO = _note(
    "LongCat: two people, two voices",
    "**Change:** picture and both sounds (green). Each sound is silent while the other person speaks. The masks halve "
    "the picture; for other places draw them on the prepared image.",
    *_LONGCAT,
    SAVED,
)
LONGCAT_CONTINUATION = _note(
    "LongCat: a video goes on",
    "**Change:** video, speech and prompt (green). The new video begins where the old one ends, and holds the new "
    "frames only.",
    *_LONGCAT,
    SAVED,
)
_RESEARCH = "**The weights of PersonaLive are for academic research only.**"
_PERSONALIVE = (
    "**Model:** tick *download* in Load Model (about 10 GB).",
    "**Needs:** an NVIDIA GPU; 7 GB of its memory were held. A minute of video at 25 fps took 32 s on an H200.",
)
PERSONALIVE = _note(
    "A portrait that follows a video",
    _RESEARCH,
    *_PERSONALIVE,
    "**Change:** portrait and driving video (green): one face, in about the framing of the portrait.",
)
PERSONALIVE_FROM_SPEECH = _note(
    "Speech drives another portrait",
    "LiveAvatar says the speech with the first portrait, and the second one follows it.",
    _RESEARCH,
    *_PERSONALIVE,
    NEEDS,
    MODEL,
)


def models_of(values: object) -> list[dict[str, str]]:
    """The entries of MODELS that a node's widget values name, as pages read them."""
    named = values.values() if isinstance(values, dict) else values
    found = [value for value in named if isinstance(value, str) and value in MODELS]
    return [{"name": name, "url": _address(name), "directory": MODELS[name][0]} for name in found]


def _address(name: str) -> str:
    folder, address = MODELS[name]
    return address if address.endswith(name) else f"{address}/{folder}/{name}"

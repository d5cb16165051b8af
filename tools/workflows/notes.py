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
    "RealESRGAN_x4plus.safetensors": (
        "upscale_models",
        "https://huggingface.co/Comfy-Org/Real-ESRGAN_repackaged/resolve/main/RealESRGAN_x4plus.safetensors",
    ),
    "birefnet.safetensors": (
        "background_removal",
        "https://huggingface.co/Comfy-Org/BiRefNet/resolve/main/background_removal/birefnet.safetensors",
    ),
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
_TALK = (
    "**Talk:** press **Run**, then speak (microphone button of the conversation's node) or type. Speak again to "
    "interrupt. Browsers give a microphone only to pages by https or from the same computer; headphones or an "
    "echo-cancelling microphone keep the avatar from hearing itself."
)
_TALK_NEEDS = (
    "**Needs:** a GPU that makes 25 frames per second (H200 or alike), 42 GB of its memory; slower ones answer in slow "
    "motion. More in `docs/CONVERSATION.md`."
)
CONVERSATION = _note(
    "Talk with the avatar",
    _TALK,
    "**Start three servers first**, on this computer or another (addresses in the nodes): a language model (Ollama: "
    "`ollama run qwen3:4b-instruct`), a voice (vllm-omni with Qwen3-TTS, which clones the sound in green), ears "
    "(speaches). `docs/CONVERSATION.md` has the commands.",
    _TALK_NEEDS,
    MODEL,
    SAVED,
)
CONVERSATION_HERE = _note(
    "Talk with the avatar, without a server",
    _TALK,
    "**Models:** tick *download* in the three nodes (Qwen3 1.7B 4.1 GB, Whisper 1.6 GB, Pocket TTS), and install the "
    "voice: `pip install pocket-tts` in ComfyUI's environment. English, Spanish, French, German, Italian, Portuguese; "
    "for Chinese take the workflow *conversation*.",
    _TALK_NEEDS,
    MODEL,
    SAVED,
)
REALTIME = _note(
    "Talk with the avatar through a Realtime server",
    _TALK,
    "**Start a server first** that hears, thinks and speaks: speech-to-speech of Hugging Face, LocalAI, or a service "
    "such as OpenAI's (`wss://api.openai.com/v1`, and the name of a key; `docs/CONVERSATION.md`).",
    _TALK_NEEDS,
    MODEL,
    SAVED,
)
TEXT_TO_SPEECH = _note(
    "A text, in a cloned voice",
    "**Change:** the text, the voice to clone (3 to 20 seconds; its words go into *transcript*), the picture.",
    "**Start a voice server first:** vllm-omni with Qwen3-TTS, for instance (`docs/CONVERSATION.md`).",
    "**Without a server:** *Voice (this computer)* in place of *Voice*.",
    "**Another node's voice:** delete *Voice* and *Say*, and connect what gives AUDIO to Encode Speech: a node of "
    "another pack (ComfyUI-IndexTTS2, for instance), or ComfyUI's own *ElevenLabs Text to Speech* and *HeyGen Text to "
    "Speech* (0.29; partner nodes, which cost credits).",
    NEEDS,
    MODEL,
    SAVED,
)
MOODS = _note(
    "Moods that change while it talks",
    "The happy prompt holds from second 3 to 6 and from 9 on (*times* of Mood), the other one in between. The face "
    "changes over the next blocks of 0.48 s.",
    "**Change:** picture, speech, and both presets (green). More moods: connect Mood nodes in a row. With *Live "
    "Speech* a mood needs no times: programs ask for it by its name.",
    NEEDS,
    MODEL,
    SAVED,
)
PREPARE_PORTRAIT = _note(
    "A portrait made ready",
    "The picture is enlarged, cut to the head, evenly lit, and put before a plain background; then it talks. *Prepare "
    "Portrait* says in words what is wrong with a picture.",
    "**Needs also:** OpenCV (`pip install opencv-python-headless`) or a mask of the face, and the two models that the "
    "page offers (67 and 444 MB).",
    "**Older ComfyUI** has no Remove Background: use the one of ComfyUI-RMBG or Impact Pack, or connect *portrait* "
    "straight to Reference Image. A picture that is large already needs no upscale model.",
    "**Change:** picture, speech and prompt (green), the background's colour.",
    NEEDS,
    MODEL,
    SAVED,
)
_DITTO = (
    "**Needs:** an NVIDIA GPU with 5 GB free. On an H200 92 frames per second were made at 1080x1440 (25 are real "
    "time), the speech network not counted.",
    "**Model:** tick *download* in Load Model (2.3 GB), or put the folders of "
    "[ditto-talkinghead](https://huggingface.co/digital-avatar/ditto-talkinghead) into "
    "`models/ditto/ditto-talkinghead`.",
)
DITTO = _note(
    "Ditto: a photograph speaks",
    "**Change:** photograph and speech (green). The picture stays as it is, the face in it speaks. *How the person "
    "behaves* has emotion, gaze and pose.",
    *_DITTO,
    SAVED,
)
DITTO_COMBINE = _note(
    "Ditto: a photograph speaks, with Video Combine",
    "**Needs also:** the pack ComfyUI-VideoHelperSuite. Without it take *ditto_core*.",
    *_DITTO,
    YOURS,
)
DITTO_LIVE = _note(
    "Ditto: speech that arrives while the video is made",
    "Press **Run**, then speak: the microphone button of Live Speech sends what you say. Programs post sound to the "
    "address that the node shows. While nobody speaks the person waits.",
    *_DITTO,
    SAVED,
)
DITTO_VIDEO = _note(
    "Ditto: new lips for a video",
    "**Change:** video and speech (green). The video keeps its movement and gets lips for the speech; it is played "
    "forwards and backwards until the speech ends.",
    *_DITTO,
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
GESTURES = _note(
    "A head that idles and nods",
    "No driving video: the head moves by a formula. The expression stays the portrait's. For smiles and blinks, read "
    "them from a video with *Extract Motion* and put them in with *Blend Motions*.",
    _RESEARCH,
    *_PERSONALIVE,
    "**Change:** portrait (green), gestures and their order.",
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

"""Nodes that load the model and apply the LoRA."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ...host.progress import Progress, show_text
from ...loaders.files import load_state_dict
from ...loaders.liveavatar import folders
from ...loaders.liveavatar.stored_copy import delete_copies, keep_on_disk
from ...loaders.liveavatar.transformer import load_host_model
from ...loaders.lora import apply_to_host, read_lora
from ...loaders.wan.clip import host_clip
from ...loaders.wan.text import TextEncoder
from ...loaders.wan.wav2vec2 import AudioEncoder
from ..schema import FOLDED, Node, schema

DTYPES = {
    "auto": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}
OFF, ON, DELETE = COPY_CHOICES = ("off", "on", "delete")
WAV2VEC2_FOLDER = "wav2vec2-large-xlsr-53-english"
VAE_FILE = "Wan2.1_VAE.pth"
DOWNLOAD_TIP = (
    "Allow fetching missing files of the published model from the Hugging Face hub (about 45 GB for the "
    "checkpoint, 1.4 GB for the LoRA). An interrupted download goes on where it stopped."
)


class LiveAvatarLoadCheckpoint(Node):
    """Loads everything from one checkpoint folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarLoadCheckpoint",
            search_aliases=[
                "talking head",
                "talking portrait",
                "lip sync",
                "speech to video",
                "wan s2v",
                "avatar loader",
            ],
            display_name="LiveAvatar Load Checkpoint",
            description=(
                "Loads Wan2.2-S2V-14B and merges the LiveAvatar LoRA, from a folder in models/liveavatar or from "
                "the Hugging Face hub. Gives ComfyUI's own MODEL, CLIP, VAE and AUDIO_ENCODER."
            ),
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=folders.checkpoint_names(),
                    tooltip="A folder in models/liveavatar in the layout of Wan-AI/Wan2.2-S2V-14B.",
                ),
                io.Combo.Input(
                    "lora",
                    options=folders.lora_names(),
                    tooltip="Merged at its training scale (alpha 64, rank 128). Without it, 4 steps are too few.",
                ),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="1 is the strength the LoRA was trained with.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(DTYPES),
                    tooltip=(
                        "Number format of the transformer's weights. fp8_e4m3fn halves their memory at some loss."
                    ),
                ),
                io.Boolean.Input("download", default=False, tooltip=DOWNLOAD_TIP),
                io.Combo.Input(
                    "float8_copy",
                    options=list(COPY_CHOICES),
                    default=OFF,
                    tooltip=(
                        "on: what fp8 computes with is kept on the disk (18 GB, in models/liveavatar_float8), so that "
                        "the first video after a start of ComfyUI begins sooner. For models of this node only. "
                        "delete: deletes all such copies."
                    ),
                    **FOLDED,
                ),
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output(), io.AudioEncoder.Output()],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        lora: str,
        lora_strength: float,
        precision: str,
        download: bool,
        float8_copy: str = OFF,
    ) -> io.NodeOutput:
        from comfy import model_management
        from comfy.sd import VAE

        progress = Progress()
        folder, lora_file = folders.find_both(checkpoint, lora, download, progress)
        # The small parts come first, so that a missing one is noticed before the large file is read.
        vae = VAE(sd=load_state_dict(folder / VAE_FILE))
        on_cpu = model_management.is_device_cpu(model_management.text_encoder_device())
        dtype = torch.float32 if on_cpu else torch.bfloat16
        audio_encoder = AudioEncoder.from_folder(folder / WAV2VEC2_FOLDER, dtype=dtype)
        clip = host_clip(TextEncoder.from_folder(folder))
        model = load_host_model(folder, DTYPES[precision], lora_file, lora_strength)
        if float8_copy == ON:
            show_text(keep_on_disk(model, folder, lora_file, lora_strength), cls.hidden)
        elif float8_copy == DELETE:
            show_text(delete_copies(), cls.hidden)
        return io.NodeOutput(model, clip, vae, audio_encoder)


class LiveAvatarApplyLora(Node):
    """Puts the LoRA on any S2V MODEL, at the right scale."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarApplyLora",
            search_aliases=["talking head lora", "wan s2v lora", "lip sync"],
            display_name="LiveAvatar Apply LoRA",
            description=(
                "Applies the LiveAvatar LoRA to a Wan2.2-S2V MODEL of any loader (bf16, fp8, GGUF). The published "
                "file does not say its scale (alpha 64, rank 128, so 0.5): general LoRA loaders apply it twice "
                "as strong."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Wan2.2-S2V-14B from any loader."),
                io.Combo.Input("lora", options=folders.lora_names(), tooltip="The LoRA file."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    tooltip="1 is the strength the LoRA was trained with.",
                ),
                io.Boolean.Input("download", default=False, tooltip=DOWNLOAD_TIP),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, lora: str, strength: float, download: bool) -> io.NodeOutput:
        file = folders.find_lora(lora, download, Progress())
        if file is None:
            return io.NodeOutput(model)
        return io.NodeOutput(apply_to_host(model, read_lora(file), strength))

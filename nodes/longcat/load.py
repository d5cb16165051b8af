"""LongCat: nodes that load the model and apply LoRAs."""

from __future__ import annotations

from comfy_api.latest import io

from ...host.progress import Progress
from ...loaders.longcat import folders
from ...loaders.longcat.model import LongCatModel
from ...loaders.longcat.precision import Precision
from ..schema import Node, schema
from ..types import LongCatType

CATEGORY = "LiveAvatar/LongCat"
AUTO = "auto"
DOWNLOAD_TIP = (
    "Allow fetching missing files from the Hugging Face hub (32 GB; int8: 16 GB; LoRA and speech encoder: 6 GB). An "
    "interrupted download goes on where it stopped."
)


class LongCatLoadModel(Node):
    """Loads the transformer, a LoRA and the speech encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LongCatLoadModel",
            search_aliases=["longcat video avatar", "talking head", "speech to video", "lip sync"],
            display_name="LongCat Load Model",
            category=CATEGORY,
            description=(
                "Loads LongCat-Video-Avatar 1.5 or 1.0 with its LoRA and its speech encoder, from models/longcat, a "
                "single file in models/diffusion_models or the Hugging Face hub. Text encoder (UMT5) and VAE (Wan 2.1) "
                "come from ComfyUI's own loaders."
            ),
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=folders.checkpoint_names(),
                    tooltip="1.5: 25 fps in 8 steps, for one or two people. int8 takes half the memory. 1.0: 16 fps.",
                ),
                io.Combo.Input(
                    "lora",
                    options=folders.lora_names(),
                    tooltip="auto: dmd_lora with 1.5, which makes 8 steps enough; none with 1.0.",
                ),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="1 as trained. Lower it where lips redden in long videos.",
                ),
                io.Combo.Input(
                    "precision",
                    options=[AUTO, *(precision.value for precision in Precision)],
                    tooltip=(
                        "auto: bf16 on a GPU, fp32 on a CPU. fp8: faster, in half the memory, on NVIDIA's RTX 40 and "
                        "newer. fast: with attention in 8 bits as well."
                    ),
                ),
                io.Boolean.Input("download", default=False, tooltip=DOWNLOAD_TIP),
            ],
            outputs=[LongCatType.Output(display_name="longcat"), io.AudioEncoder.Output()],
        )

    @classmethod
    def execute(
        cls, checkpoint: str, lora: str, lora_strength: float, precision: str, download: bool
    ) -> io.NodeOutput:
        from comfy import model_management

        progress = Progress()
        source = folders.find_checkpoint(checkpoint, download, progress)
        device = model_management.get_torch_device()
        on_cpu = model_management.is_device_cpu(device)
        if precision == AUTO:
            precision = "fp32" if on_cpu else "bf16"
        model = LongCatModel(source, device, Precision(precision))
        version = model.architecture.version.name
        file = folders.find_lora(lora, version, download, progress)
        if file is not None:
            model = model.with_lora(file, lora_strength)
        encoder = folders.load_encoder(version, source, download, progress)
        return io.NodeOutput(model, encoder)


class LongCatApplyLora(Node):
    """Adds a LoRA to the model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LongCatApplyLora",
            search_aliases=["dmd lora", "cfg step lora", "refinement lora", "longcat distill"],
            display_name="LongCat Apply LoRA",
            category=CATEGORY,
            description=(
                "Adds a LoRA at the scale that its file says: dmd_lora to 1.5, cfg_step_lora or refinement_lora to "
                "1.0. Several add up."
            ),
            inputs=[
                LongCatType.Input("longcat", tooltip="From LongCat Load Model."),
                io.Combo.Input(
                    "lora",
                    options=folders.lora_names(),
                    tooltip="From models/loras or models/longcat/*/lora.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=-2.0, max=2.0, step=0.05, tooltip="1 as trained."
                ),
                io.Boolean.Input("download", default=False, tooltip=DOWNLOAD_TIP),
            ],
            outputs=[LongCatType.Output(display_name="longcat")],
        )

    @classmethod
    def execute(cls, longcat: LongCatModel, lora: str, strength: float, download: bool) -> io.NodeOutput:
        file = folders.find_lora(lora, longcat.architecture.version.name, download, Progress())
        return io.NodeOutput(longcat if file is None else longcat.with_lora(file, strength))

"""The text encoder as ComfyUI's own CLIP object: LoRAs, layers, hooks, saving and off-loading are the host's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .text import ENCODER_FILE, MAX_TOKENS, TOKENIZER_FOLDER, TextEncoder, text_rows

NAME = "umt5xxl"
"""The host's name for this encoder, which names its token lists and prefixes its weights."""


class HostTextModel(nn.Module):
    """The model behind the host's CLIP, whose weights have the names of the host's own UMT5."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.add_module(NAME, nn.ModuleDict({"transformer": encoder.model}))
        self._layer: int | None = None

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The weights, each under one name."""
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if not key.endswith("encoder.embed_tokens.weight")}

    def set_clip_options(self, options: Mapping[str, Any]) -> None:
        """Take the text from another ``layer``; there is no pooled output to be changed."""
        self._layer = options.get("layer", self._layer)

    def reset_clip_options(self) -> None:
        """Take the text from the last layer again."""
        self._layer = None

    def encode_token_weights(self, tokens: Mapping[str, list]) -> tuple[torch.Tensor, None]:
        """The encoded tokens [1, 512, dim]: the rows of the text, then zero rows, as from the host's own encoder."""
        model = self.get_submodule(f"{NAME}.transformer")
        ids = [entry[0] for entry in tokens[NAME][0]]
        rows = text_rows(model, ids, model.shared.weight.device, self._layer)
        cond = rows.new_zeros(1, MAX_TOKENS, rows.shape[1])
        cond[0, : rows.shape[0]] = rows
        return cond, None


class HostTokenizer:
    """The tokenizer behind the host's CLIP."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._ids = encoder.token_ids
        self._pieces = encoder.pieces

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **options: Any
    ) -> dict[str, list]:
        """One list of (id, weight 1.0), with a third item for ``return_word_ids``."""
        tail = (0,) if return_word_ids else ()
        return {NAME: [[(token, 1.0, *tail) for token in self._ids(text)]]}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tokenizer as the host keeps it beside the weights; ValueError where the folder has none of that kind."""
        if self._pieces is None:
            raise ValueError(
                f"Copy {ENCODER_FILE} and the folder {TOKENIZER_FOLDER} of the checkpoint instead of saving this CLIP: "
                "it comes from there, without the spiece.model that a CLIP file of ComfyUI holds."
            )
        return {
            "spiece_model": torch.frombuffer(bytearray(Path(self._pieces).read_bytes()), dtype=torch.uint8)
        }


def host_clip(encoder: TextEncoder) -> Any:
    """A ComfyUI CLIP with the encoder in it."""
    from comfy import hooks, model_management
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

    clip = CLIP(no_init=True)
    clip.cond_stage_model = HostTextModel(encoder)
    clip.tokenizer = HostTokenizer(encoder)
    clip.patcher = ModelPatcher(
        clip.cond_stage_model,
        load_device=model_management.text_encoder_device(),
        offload_device=model_management.text_encoder_offload_device(),
    )
    clip.patcher.hook_mode = hooks.EnumHookMode.MinVram
    clip.patcher.is_clip = True
    clip.layer_idx = None
    clip.tokenizer_options = {}
    clip.use_clip_schedule = False
    clip.apply_hooks_to_conds = None
    return clip

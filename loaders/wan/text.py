"""The UMT5 text encoder of the Hugging Face layout, without a host."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..files import check_file, check_keys, load_state_dict
from ..sizes import check_layers, check_whole, empty

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel

ENCODER_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER_FOLDER = "google/umt5-xxl"
MAX_TOKENS = 512

_BLOCK_NAMES = {
    "norm1.weight": "layer.0.layer_norm.weight",
    "attn.q.weight": "layer.0.SelfAttention.q.weight",
    "attn.k.weight": "layer.0.SelfAttention.k.weight",
    "attn.v.weight": "layer.0.SelfAttention.v.weight",
    "attn.o.weight": "layer.0.SelfAttention.o.weight",
    "pos_embedding.embedding.weight": "layer.0.SelfAttention.relative_attention_bias.weight",
    "norm2.weight": "layer.1.layer_norm.weight",
    "ffn.gate.0.weight": "layer.1.DenseReluDense.wi_0.weight",
    "ffn.fc1.weight": "layer.1.DenseReluDense.wi_1.weight",
    "ffn.fc2.weight": "layer.1.DenseReluDense.wo.weight",
}
_OTHER_NAMES = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
_BLOCK_KEY = re.compile(r"blocks\.(\d+)\.(.+)$")


class TextEncoder:
    """UMT5 with its tokenizer. Weights in brackets, ``(word:1.2)``, mean nothing.

    ``pieces`` is the tokenizer as a SentencePiece file, where the folder has one.
    """

    def __init__(
        self,
        model: UMT5EncoderModel,
        tokenizer: Any,
        device: torch.device | str = "cpu",
        pieces: Path | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.pieces = pieces

    @classmethod
    def from_folder(cls, folder: str | Path, device: torch.device | str = "cpu") -> TextEncoder:
        """Load from a checkpoint folder in the layout of Wan-AI/Wan2.2-S2V-14B, in the dtype of the file.

        It is brought to ``device`` when it is first used.

        Raises:
            FileNotFoundError: a file or the tokenizer is missing.
            ValueError: the weights or the tokenizer cannot be read, or are another model's.
        """
        folder = Path(folder)
        model = umt5_encoder(load_state_dict(folder / ENCODER_FILE))
        pieces = folder / TOKENIZER_FOLDER / "spiece.model"
        tokenizer = _read_tokenizer(folder / TOKENIZER_FOLDER)
        return cls(model, tokenizer, device, pieces if pieces.is_file() else None)

    def encode(self, text: str) -> torch.Tensor:
        """The text as [n, dim], n its number of tokens (at most 512), on the CPU in the encoder's dtype."""
        return self.encode_ids(self.token_ids(text))

    def encode_ids(self, ids: list[int]) -> torch.Tensor:
        """Token ids, without padding, as [n, dim] on the CPU."""
        return text_rows(self.model.to(self.device), ids, self.device)

    def token_ids(self, text: str) -> list[int]:
        """The cleaned text's tokens with the end mark, at most 512."""
        return self.tokenizer(clean(text), truncation=True, max_length=MAX_TOKENS).input_ids


def text_rows(
    model: UMT5EncoderModel, ids: list[int], device: torch.device, layer: int | None = None
) -> torch.Tensor:
    """Token ids, without padding, as [n, dim] on the CPU; ``model`` is on ``device``.

    ``layer`` is that of another layer than the last one, counted from the end (-2 is the one before it).
    """
    with torch.no_grad():
        # without padding there is nothing to mask, and the real rows are the same
        out = model(torch.tensor([ids], device=device), output_hidden_states=layer is not None)
        if layer is None or not -model.config.num_layers <= layer < -1:
            return out.last_hidden_state[0].cpu()
        return model.encoder.final_layer_norm(out.hidden_states[layer])[0].cpu()


def clean(text: str) -> str:
    """Repair wrongly decoded text (if ftfy is installed), resolve HTML entities, collapse white space."""
    try:
        from ftfy import fix_text
    except ImportError:
        pass
    else:
        text = fix_text(text)
    return " ".join(html.unescape(html.unescape(text)).split())


def umt5_encoder(state: dict[str, torch.Tensor]) -> UMT5EncoderModel:
    """The transformers encoder for weights in the published key naming; sizes come from the shapes.

    The weights are used as they are, not copied.

    Raises:
        ValueError: the weights are not those of a UMT5 encoder.
    """
    from transformers import UMT5Config, UMT5EncoderModel

    renamed = {}
    for key, tensor in state.items():
        block = _BLOCK_KEY.match(key)
        if block and block[2] in _BLOCK_NAMES:
            renamed[f"encoder.block.{block[1]}.{_BLOCK_NAMES[block[2]]}"] = tensor
        elif key in _OTHER_NAMES:
            renamed[_OTHER_NAMES[key]] = tensor
        else:
            raise ValueError(f"The text encoder file has an unknown weight {key}; {ENCODER_FILE} is needed.")
    layers = len({key.split(".")[2] for key in renamed if key.startswith("encoder.block.")})
    check_layers(ENCODER_FILE, {"number of layers": layers}, state)
    try:
        vocabulary, dim = state["token_embedding.weight"].shape
        inner = state["blocks.0.attn.q.weight"].shape[0]
        ffn_dim = state["blocks.0.ffn.fc1.weight"].shape[0]
        buckets, heads = state["blocks.0.pos_embedding.embedding.weight"].shape
    except KeyError as error:
        raise ValueError(f"The text encoder file lacks {error}; {ENCODER_FILE} is needed.") from error
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"The text encoder file has weights of another shape; {ENCODER_FILE} is needed."
        ) from error
    check_whole(ENCODER_FILE, {"number of heads": heads})
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=dim,
        d_kv=inner // heads,
        d_ff=ffn_dim,
        num_layers=layers,
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=128,
        layer_norm_epsilon=1e-6,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        use_cache=False,
    )
    with empty(ENCODER_FILE, "text encoder"):
        model = UMT5EncoderModel(config)
    model.set_input_embeddings(model.shared)
    renamed["encoder.embed_tokens.weight"] = renamed["shared.weight"]
    check_keys(renamed, model, f"the text encoder {ENCODER_FILE}")
    model.load_state_dict(renamed, assign=True)
    return model.eval()


def _read_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        raise FileNotFoundError(
            f"The tokenizer folder {folder} does not exist; download it with the base model."
        )
    for path in folder.glob("*.json"):
        check_file(path)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # its kind depends on the file that is wrong
        raise ValueError(
            f"Download {folder} again: it holds no tokenizer that can be read ({error})."
        ) from error

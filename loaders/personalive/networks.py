"""PersonaLive's files, in the layout its authors publish or converted to safetensors, as one engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ...engines.parts.face.motion_extractor import MotionExtractor, MotionExtractorConfig
from ...engines.personalive.codec import Codec, KLCodec, TinyCodec, channels_last
from ...engines.personalive.config import MotionEncoderConfig, PoseGuiderConfig, UNetConfig
from ...engines.personalive.denoising_unet import DenoisingUNet
from ...engines.personalive.image_encoder import ClipImageEncoder, ImageEncoder
from ...engines.personalive.modules import PositionTable
from ...engines.personalive.motion_encoder import MotionEncoder
from ...engines.personalive.pipeline import PersonaLive
from ...engines.personalive.pose_guider import PoseGuider
from ...engines.personalive.reference_unet import ReferenceUNet
from ..files import PICKLES, SAFETENSORS, check_file, check_keys, load_sharded, load_state_dict, read_json
from ..hub import resolve_snapshot
from ..sizes import check_layers, check_whole, empty, fill

PERSONALIVE = "huaichang/PersonaLive"
IMAGE_VARIATIONS = "lambdalabs/sd-image-variations-diffusers"
VAE_FT_MSE = "stabilityai/sd-vae-ft-mse"
TINY_VAE = "madebyollin/taesd"

WEIGHTS = (
    "reference_unet",
    "denoising_unet",
    "temporal_module",
    "motion_encoder",
    "motion_extractor",
    "pose_guider",
)
PUBLISHED_FOLDER = "pretrained_weights/personalive"
STEM = "diffusion_pytorch_model"
MOST_POSITIONS = 4096
# Names of the VAE's attention layers in files of early diffusers versions.
OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
Progress = Callable[[int, int], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PersonaLiveFiles:
    """Where everything lies: the six weight files, and the folders of the models that PersonaLive builds on.

    ``vae`` or ``image_encoder`` is None when another object takes its place, ``tiny_vae`` unless wanted.
    """

    weights: Mapping[str, Path]
    unet: Path
    image_encoder: Path | None
    vae: Path | None
    tiny_vae: Path | None = None


def find_files(
    source: str,
    roots: Path | Sequence[Path],
    download: bool = False,
    progress: Progress | None = None,
    need_vae: bool = True,
    need_clip: bool = True,
    tiny_vae: bool = False,
) -> PersonaLiveFiles:
    """The files of PersonaLive in a local folder, or of the hub repository ``huaichang/PersonaLive``.

    source: a folder with the six weight files (also as ``personalive/`` or
    ``pretrained_weights/personalive/`` inside it), or the repository's name. The two models it builds on are
    looked for beside the weights, in the folders above them and in ``roots``; with ``download`` what is absent
    is fetched into the first of these. FileNotFoundError names what is missing and what to do.
    """
    local = Path(source).expanduser()
    if local.is_dir():
        base = local
    else:
        names = [f"{PUBLISHED_FOLDER}/{stem}.pth" for stem in WEIGHTS]
        base = resolve_snapshot(source, names, roots, download, progress)
    folder = weights_folder(base)
    weights = {stem: _weight_file(folder, stem) for stem in WEIGHTS}
    places = [folder, *list(folder.parents)[:2]]

    def companion(repo: str, files: list[str]) -> Path:
        name = repo.partition("/")[2]
        for place in places:
            if (place / name).is_dir():
                return resolve_snapshot(str(place / name), files, roots, False)
        return resolve_snapshot(repo, files, roots, download, progress)

    variations = ["unet/config.json"]
    if not _has_base_unet(weights):
        variations.append(_any_of("unet", STEM))
    if need_clip:
        variations += ["image_encoder/config.json", _any_of("image_encoder", "model", "pytorch_model")]
    variations_folder = companion(IMAGE_VARIATIONS, variations)
    vae = companion(VAE_FT_MSE, ["config.json", _any_of("", STEM)]) if need_vae else None
    clip = variations_folder / "image_encoder" if need_clip else None
    tiny = companion(TINY_VAE, ["config.json", _any_of("", STEM)]) if tiny_vae else None
    return PersonaLiveFiles(weights, variations_folder / "unet", clip, vae, tiny)


def weights_folder(base: Path) -> Path:
    """The folder at or in ``base`` that holds the six weight files; FileNotFoundError names those missing."""
    best = max(_candidates(base), key=lambda folder: sum(_exists(folder, stem) for stem in WEIGHTS))
    absent = [f"{stem}.pth" for stem in WEIGHTS if not _exists(best, stem)]
    if len(absent) == len(WEIGHTS):
        raise FileNotFoundError(
            f"{base} holds no PersonaLive weights ({', '.join(absent)}); choose the folder that has them, "
            f"or download {PERSONALIVE}"
        )
    if absent:
        raise FileNotFoundError(f"{best} lacks {', '.join(absent)}; copy or download the missing files there")
    return best


def holds_weights(base: Path) -> bool:
    """Whether a folder is one that :func:`weights_folder` accepts or misses only some files of."""
    return any(_exists(folder, stem) for folder in _candidates(base) for stem in WEIGHTS)


def load_personalive(
    files: PersonaLiveFiles,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
    codec: Codec | None = None,
    image_encoder: ImageEncoder | None = None,
) -> PersonaLive:
    """The engine of a set of files, with all networks on ``device``.

    codec, image_encoder: take the place of the files' VAE and CLIP (see ``personalive_host.py``).
    Where the files have a tiny VAE (TAESD), frames are decoded with it: faster, and a little softer.
    The keypoint network stays in float32. ValueError names a file that does not fit.
    """
    config = _unet_config(files.unet / "config.json")
    guider = _pose_guider(files.weights["pose_guider"])
    if guider.conv_out_modify.out_channels != config.block_out_channels[0]:
        raise ValueError(
            f"{files.weights['pose_guider']} makes {guider.conv_out_modify.out_channels} feature channels, "
            f"but the UNet of {files.unet / 'config.json'} starts with {config.block_out_channels[0]}; use "
            "files of one model"
        )

    def ready(module: nn.Module) -> nn.Module:
        # nn.Module's own method: diffusers' override warns about something that does not concern these models
        nn.Module.to(module, device=device, dtype=dtype)
        return channels_last(module).eval().requires_grad_(False)

    if image_encoder is None:
        clip = _image_encoder(files.image_encoder)
        if clip.config.projection_dim != config.cross_attention_dim:
            raise ValueError(
                f"{files.image_encoder} makes tokens of width {clip.config.projection_dim}, but the UNet of "
                f"{files.unet} takes {config.cross_attention_dim}; use the one of {IMAGE_VARIATIONS}"
            )
        image_encoder = ClipImageEncoder(ready(clip))
    if codec is None:
        codec = KLCodec(ready(_vae(files.vae)))
    if files.tiny_vae is not None:
        codec = TinyCodec(codec, ready(_tiny_vae(files.tiny_vae)))
    return PersonaLive(
        ready(_denoising_unet(files, config)),
        ready(_reference_unet(files.weights["reference_unet"], config)),
        ready(_motion_encoder(files.weights["motion_encoder"])),
        _motion_extractor(files.weights["motion_extractor"]).to(device).requires_grad_(False),
        ready(guider),
        image_encoder,
        codec,
    )


def _denoising_unet(files: PersonaLiveFiles, config: UNetConfig) -> DenoisingUNet:
    """Base UNet where needed, then the denoising file, then the temporal file: what comes later counts."""
    state: dict[str, Tensor] = {}
    if not _has_base_unet(files.weights):
        state.update(load_sharded(files.unet, STEM))
    for stem in ("denoising_unet", "temporal_module"):
        state.update(load_state_dict(files.weights[stem]))
    path = files.unet / "config.json"
    _check_unet_layers(path, config, state)
    with empty(path, "UNet"):
        model = DenoisingUNet(config)
    for name, module in model.named_modules():
        if isinstance(module, PositionTable) and f"{name}.pe" not in state:
            state[f"{name}.pe"] = PositionTable(module.pe.shape[-1], module.pe.shape[1]).pe
    where = f"{files.weights['denoising_unet']} and {files.weights['temporal_module'].name} together"
    _fill(model, _only_known(state, model, where), where)
    return model


def _reference_unet(path: Path, config: UNetConfig) -> ReferenceUNet:
    state = load_state_dict(path)
    _check_unet_layers(path, config, state)
    with empty(path, "UNet"):
        model = ReferenceUNet(config)
    _fill(model.unet, state, str(path))
    return model


def _motion_encoder(path: Path) -> MotionEncoder:
    state = load_state_dict(path)
    width = _shape(state, "model.att_1.pos_embed.proj.weight", path)[0]
    heads = MotionEncoderConfig.heads
    return fill(lambda: MotionEncoder(MotionEncoderConfig(heads, width // heads)), state, str(path), path)


def _motion_extractor(path: Path) -> MotionExtractor:
    state = load_state_dict(path)
    dims = tuple(_shape(state, f"detector.stages.{i}.0.norm.weight", path)[0] for i in range(4))
    depths = tuple(
        len({key.split(".")[3] for key in state if key.startswith(f"detector.stages.{i}.")}) for i in range(4)
    )
    check_layers(path, {"number of blocks": sum(depths)}, state)
    points = _shape(state, "detector.fc_kp.weight", path)[0] // 3
    config = MotionExtractorConfig(depths, dims, points)
    with empty(path, "motion extractor"):
        model = MotionExtractor(config)
    state.setdefault("idx_tensor", torch.arange(len(model.idx_tensor)))
    state = {key: value.float() for key, value in _only_known(state, model, str(path)).items()}
    return fill(lambda: MotionExtractor(config), state, str(path), path)


def _pose_guider(path: Path) -> PoseGuider:
    state = load_state_dict(path)
    first = _shape(state, "conv_in.weight", path)[0]
    strided = (f"blocks.{i}.weight" for i in range(1, 2 * len(PoseGuiderConfig.channels) - 2, 2))
    channels = (first, *(_shape(state, key, path)[0] for key in strided))
    config = PoseGuiderConfig(channels, _shape(state, "conv_out_modify.weight", path)[0])
    return fill(lambda: PoseGuider(config), state, str(path), path)


def _fill(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    check_keys(state, model, where)
    model.load_state_dict(state, assign=True)


def _only_known(state: dict[str, Tensor], model: nn.Module, where: str) -> dict[str, Tensor]:
    """Without weights that the model has no place for: these files are not required to fit exactly."""
    known = model.state_dict().keys()
    extra = sorted(state.keys() - known)
    if extra:
        logger.warning("%s: %d weights are not used (%s).", where, len(extra), ", ".join(extra[:3]))
    return {key: value for key, value in state.items() if key in known}


def _shape(state: Mapping[str, Tensor], key: str, path: Path) -> torch.Size:
    if key not in state or not state[key].ndim:
        raise ValueError(f"{path} is a file of another model: it has no weight {key}")
    return state[key].shape


def _image_encoder(folder: Path) -> CLIPVisionModelWithProjection:
    path = folder / "config.json"
    values = read_json(path)
    with empty(path, "image encoder"):
        config = CLIPVisionConfig.from_dict(values)
    state = (
        load_sharded(folder, "model") if _exists(folder, "model") else load_sharded(folder, "pytorch_model")
    )
    # written by old versions of transformers, computed by new ones
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    check_layers(path, {"num_hidden_layers": config.num_hidden_layers}, state)
    return fill(lambda: CLIPVisionModelWithProjection(config), state, f"the image encoder in {folder}", path)


def _vae(folder: Path) -> AutoencoderKL:
    path = folder / "config.json"
    values = read_json(path)
    state = {}
    for key, value in load_sharded(folder, STEM).items():
        if ".attentions." in key:
            for old, new in OLD_ATTENTION.items():
                key = key.replace(old, new)
        state[key] = value
    check_layers(path, _counts(values, "layers_per_block", "block_out_channels"), state)
    return fill(lambda: AutoencoderKL.from_config(values), state, f"the VAE in {folder}", path)


def _tiny_vae(folder: Path) -> AutoencoderTiny:
    path = folder / "config.json"
    values, state = read_json(path), load_sharded(folder, STEM)
    blocks = "num_encoder_blocks", "num_decoder_blocks"
    check_whole(path, {name: values[name] for name in blocks if name in values}, lists=blocks)
    check_layers(
        path, {name: sum(values[name]) for name in blocks if isinstance(values.get(name), list)}, state
    )
    return fill(lambda: AutoencoderTiny.from_config(values), state, f"the tiny VAE in {folder}", path)


def _unet_config(path: Path) -> UNetConfig:
    config = UNetConfig.from_dict(read_json(path))
    sizes = {
        k: v for k, v in asdict(config).items() if k not in ("down_block_types", "up_block_types", "norm_eps")
    }
    check_whole(path, sizes, lists=["block_out_channels"])
    if not isinstance(config.block_out_channels, tuple):
        raise ValueError(f"Download {path} again: its block_out_channels are no list.")
    if config.position_length > MOST_POSITIONS:
        raise ValueError(f"Download {path} again: its position_length is above {MOST_POSITIONS}.")
    return config


def _check_unet_layers(path: Path, config: UNetConfig, state: Mapping[str, Tensor]) -> None:
    check_layers(path, _counts(asdict(config), "layers_per_block", "block_out_channels"), state)


def _counts(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """How many layers some entries of a config make: a number, or the length of a list."""
    found = {name: values[name] for name in names if name in values}
    return {name: len(value) if isinstance(value, (list, tuple)) else value for name, value in found.items()}


def _has_base_unet(weights: Mapping[str, Path]) -> bool:
    """Whether the denoising file is complete by itself, so that the base UNet's weights are not needed."""
    return "conv_in.weight" in load_state_dict(weights["denoising_unet"])


def _candidates(base: Path) -> list[Path]:
    return [base, base / "personalive", base / PUBLISHED_FOLDER]


def _exists(folder: Path, stem: str) -> bool:
    return any((folder / f"{stem}{suffix}").is_file() for suffix in (*SAFETENSORS, *PICKLES))


def _weight_file(folder: Path, stem: str) -> Path:
    path = next(p for s in (*SAFETENSORS, *PICKLES) if (p := folder / f"{stem}{s}").is_file())
    check_file(path)
    return path


def _any_of(folder: str, *stems: str) -> str:
    """Alternatives for :func:`resolve_snapshot`: safetensors first."""
    start = f"{folder}/" if folder else ""
    return "|".join(f"{start}{stem}{suffix}" for suffix in (".safetensors", ".bin") for stem in stems)

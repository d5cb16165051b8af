"""PersonaLive's files: in the layout its authors publish or converted to safetensors, found or fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import PICKLES, SAFETENSORS, check_file, load_state_dict
from ..hub import resolve_snapshot

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
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PersonaLiveFiles:
    """The paths of the six weight files, and of the folders of the models that PersonaLive builds on.

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

    The two models that it builds on are looked for beside the weights, in the folders above them and in ``roots``.

    Args:
        source: a folder with the six weight files (also as ``personalive/`` or ``pretrained_weights/personalive/``
            inside it), or the repository's name.
        download: fetch absent files into the first of ``roots``.

    Raises:
        FileNotFoundError: files are missing; the message names them and says what to do.
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
    if not has_base_unet(weights):
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
    best = max(_candidates(base), key=lambda folder: sum(has_weights(folder, stem) for stem in WEIGHTS))
    absent = [f"{stem}.pth" for stem in WEIGHTS if not has_weights(best, stem)]
    if len(absent) == len(WEIGHTS):
        raise FileNotFoundError(
            f"{base} holds no PersonaLive weights ({', '.join(absent)}); choose the folder that has them, "
            f"or download {PERSONALIVE}"
        )
    if absent:
        raise FileNotFoundError(f"{best} lacks {', '.join(absent)}; copy or download the missing files there")
    return best


def holds_weights(base: Path) -> bool:
    """Whether a folder is one that `weights_folder` accepts or misses only some files of."""
    return any(has_weights(folder, stem) for folder in _candidates(base) for stem in WEIGHTS)


def has_base_unet(weights: Mapping[str, Path]) -> bool:
    """Whether the denoising file is complete by itself, so that the base UNet's weights are not needed."""
    return "conv_in.weight" in load_state_dict(weights["denoising_unet"])


def has_weights(folder: Path, stem: str) -> bool:
    """Whether ``folder`` holds a weight file of this name, in any format."""
    return any((folder / f"{stem}{suffix}").is_file() for suffix in (*SAFETENSORS, *PICKLES))


def _candidates(base: Path) -> list[Path]:
    return [base, base / "personalive", base / PUBLISHED_FOLDER]


def _weight_file(folder: Path, stem: str) -> Path:
    path = next(p for s in (*SAFETENSORS, *PICKLES) if (p := folder / f"{stem}{s}").is_file())
    check_file(path)
    return path


def _any_of(folder: str, *stems: str) -> str:
    """Alternatives for `resolve_snapshot`: safetensors first."""
    start = f"{folder}/" if folder else ""
    return "|".join(f"{start}{stem}{suffix}" for suffix in (".safetensors", ".bin") for stem in stems)

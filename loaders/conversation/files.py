"""Where the models of conversations are: folders of ``models/avatar_conversation``, or downloaded on consent."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..hub import resolve_snapshot

FOLDER = "avatar_conversation"

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
WHISPER = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    *TOKENIZER,
    "model.safetensors",
)
QWEN = ("config.json", "generation_config.json", *TOKENIZER)
FASTER = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt|vocabulary.json")


@dataclass(frozen=True)
class Weights:
    """A model: its files, about how many bytes they have, and the licence that its makers name."""

    repo: str
    files: tuple[str, ...]
    size: int
    licence: str
    package: str = ""
    """A Python package that it needs beyond those of the pack."""

    @property
    def label(self) -> str:
        """How the model is listed."""
        return f"{self.repo} ({self.size / 1e9:.1f} GB, {self.licence})"


EARS = (
    Weights("openai/whisper-base", WHISPER, 293_000_000, "Apache-2.0"),
    Weights("openai/whisper-small", WHISPER, 970_000_000, "Apache-2.0"),
    Weights("openai/whisper-large-v3-turbo", WHISPER, 1_621_000_000, "MIT"),
    Weights("Systran/faster-whisper-base", FASTER, 148_000_000, "MIT", "faster_whisper"),
    Weights("Systran/faster-whisper-small", FASTER, 486_000_000, "MIT", "faster_whisper"),
    Weights("Systran/faster-whisper-large-v3", FASTER, 3_090_000_000, "MIT", "faster_whisper"),
)
MINDS = (
    Weights("Qwen/Qwen3-0.6B", (*QWEN, "model.safetensors"), 1_515_000_000, "Apache-2.0"),
    Weights(
        "Qwen/Qwen3-1.7B",
        (*QWEN, "model.safetensors.index.json", "model-0000*-of-00002.safetensors"),
        4_075_000_000,
        "Apache-2.0",
    ),
)


def register() -> None:
    """Tell the host about ``models/avatar_conversation``."""
    import folder_paths

    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def roots() -> list[Path]:
    """All registered folders; downloads go to the first one."""
    import folder_paths

    return [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]


def labels(models: tuple[Weights, ...]) -> list[str]:
    """What a node lists."""
    return [model.label for model in models]


def find(
    models: tuple[Weights, ...], label: str, download: bool, progress: Callable[[int, int], None]
) -> tuple[Weights, Path]:
    """The model of this label and its folder. Raises as `resolve_snapshot` does, or ModuleNotFoundError."""
    model = next(model for model in models if model.label == label)
    if model.package:
        need(model.package)
    return model, resolve_snapshot(model.repo, model.files, roots(), download, progress)


def need(package: str) -> None:
    """ModuleNotFoundError, with the remedy, where an optional package is missing."""
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise ModuleNotFoundError(
            f"Install {name} for this choice ('pip install {name}' in ComfyUI's environment), or choose "
            "another."
        )

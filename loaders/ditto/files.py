"""Ditto's files: in the layout its authors publish, found in a folder or fetched, with LivePortrait's own where those
are the same networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import PICKLES, SAFETENSORS, check_file
from ..hub import resolve_snapshot

DITTO = "digital-avatar/ditto-talkinghead"
LICENCES = (
    "Ditto's weights: Apache-2.0. The renderer and the network of landmarks are LivePortrait's: MIT. The networks that "
    "find faces are MediaPipe's: Apache-2.0. The InsightFace finders beside them (det_10g, 2d106det) are for "
    "non-commercial research only, and are neither needed nor downloaded."
)
MODELS, AUX_MODELS, ONNX = "ditto_pytorch/models", "ditto_pytorch/aux_models", "ditto_onnx"
SETTINGS = "ditto_cfg"
SPEECH_FILE = "hubert_streaming_fix_kv.onnx"
SETTINGS_FILE = "v0.4_hubert_cfg_pytorch.pkl"
MOTION_MODEL = "lmdm_v0.4_hubert"
RENDERER = {
    "appearance_extractor": "appearance_feature_extractor",
    "motion_extractor": "motion_extractor",
    "warp_network": "warping_module",
    "decoder": "spade_generator",
    "stitch_network": "stitching_retargeting_module",
}
"""The renderer's files, and LivePortrait's names for the same networks."""
WEIGHTS = (MOTION_MODEL, *RENDERER)
FINDER, MESH, LANDMARKS = FACE_FILES = ("blaze_face.onnx", "face_mesh.onnx", "landmark203.onnx")
"""The networks that find faces and their landmarks, of MediaPipe (Apache-2.0) and LivePortrait (MIT)."""
LIVEPORTRAIT_LANDMARKS = "landmark.onnx"
LIVEPORTRAIT_FOLDERS = ("", "base_models", "retargeting_models", "liveportrait/base_models")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DittoFiles:
    """Paths of the six weight files, of the speech network, of the face networks and of the published settings.

    ``speech`` or ``settings`` is None where there is no such file, and ``faces`` lacks networks that are not there.
    """

    weights: Mapping[str, Path]
    speech: Path | None
    faces: Mapping[str, Path]
    settings: Path | None

    def check_complete(self) -> None:
        """FileNotFoundError, which names them, when networks are missing without which no portrait speaks."""
        absent = [] if self.speech else [SPEECH_FILE]
        absent += [name for name in FACE_FILES if name not in self.faces]
        if absent:
            raise FileNotFoundError(
                f"Download {', '.join(absent)} of {DITTO} to {self.weights[MOTION_MODEL].parent}, or choose {DITTO} as "
                "checkpoint with download on: Ditto hears the speech and finds faces with them."
            )


def find_files(
    source: str,
    roots: Path | Sequence[Path],
    download: bool = False,
    progress: Progress | None = None,
    liveportrait: Sequence[Path] = (),
) -> DittoFiles:
    """The files of Ditto in a local folder, or of the hub repository ``digital-avatar/ditto-talkinghead``.

    Args:
        source: a folder with the six weight files (also as ``models/`` or ``ditto_pytorch/models/`` inside it), or
            the repository's name.
        download: fetch absent files into the first of ``roots``.
        liveportrait: folders of LivePortrait, whose networks serve where a folder lacks the renderer.

    Raises:
        FileNotFoundError: files are missing; the message names them and says what to do.
        ValueError: a file is damaged.
    """
    local = Path(source).expanduser()
    here = local.is_dir()
    base = local if here else resolve_snapshot(source, published_files(), roots, download, progress)
    folder = max(_candidates(base), key=lambda place: sum(has_weights(place, stem) for stem in WEIGHTS))
    weights = {stem: _weight_file(folder, stem) or _of_liveportrait(stem, liveportrait) for stem in WEIGHTS}
    _check_complete(base, folder, weights)
    for path in weights.values():
        check_file(path)
    around = (base, folder, *list(folder.parents)[:2])

    def beside(name: str, *folders: str) -> Path | None:
        return _first(place / inside / name for place in around for inside in ("", *folders))

    faces = {name: beside(name, "aux_models", AUX_MODELS, ONNX) for name in FACE_FILES}
    faces[LANDMARKS] = faces[LANDMARKS] or _first(
        place / inside / LIVEPORTRAIT_LANDMARKS for place in liveportrait for inside in LIVEPORTRAIT_FOLDERS
    )
    return DittoFiles(
        weights,
        beside(SPEECH_FILE, "aux_models", AUX_MODELS),
        {name: path for name, path in faces.items() if path is not None},
        beside(SETTINGS_FILE, SETTINGS),
    )


def published_files() -> list[str]:
    """What is needed of the repository."""
    weights = [f"{MODELS}/{stem}.pth" for stem in WEIGHTS]
    faces = [f"{ONNX}/{FINDER}", f"{ONNX}/{MESH}", f"{AUX_MODELS}/{LANDMARKS}"]
    return [*weights, *faces, f"{AUX_MODELS}/{SPEECH_FILE}", f"{SETTINGS}/{SETTINGS_FILE}"]


def holds_weights(base: Path) -> bool:
    """Whether a folder has Ditto's motion model, which is its own."""
    return any(has_weights(folder, MOTION_MODEL) for folder in _candidates(base))


def has_weights(folder: Path, stem: str) -> bool:
    """Whether ``folder`` holds a weight file of this name, in any format."""
    return _weight_file(folder, stem) is not None


def _candidates(base: Path) -> list[Path]:
    return [base, base / "models", base / MODELS]


def _weight_file(folder: Path, stem: str) -> Path | None:
    return _first(folder / f"{stem}{suffix}" for suffix in (*SAFETENSORS, *PICKLES))


def _of_liveportrait(stem: str, folders: Sequence[Path]) -> Path | None:
    if stem not in RENDERER:
        return None
    places = [folder / inside for folder in folders for inside in LIVEPORTRAIT_FOLDERS]
    return _first(path for place in places if (path := _weight_file(place, RENDERER[stem])) is not None)


def _check_complete(base: Path, folder: Path, weights: Mapping[str, Path | None]) -> None:
    absent = [f"{stem}.pth" for stem, path in weights.items() if path is None]
    if len(absent) == len(WEIGHTS):
        raise FileNotFoundError(
            f"{base} holds no weights of Ditto ({', '.join(absent)}); choose the folder that has them, or download "
            f"{DITTO}"
        )
    if absent:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(absent)}; copy or download the missing files there"
        )


def _first(paths) -> Path | None:
    return next((path for path in paths if path.is_file()), None)

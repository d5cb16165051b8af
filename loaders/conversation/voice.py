"""Pocket TTS in this process: a voice of 100 million parameters that runs on a CPU and clones a sample."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ...conversation.worker import Worker
from ...media.audio import resample
from ..hub import resolve_snapshot
from .files import need, roots

LANGUAGES = ("english", "spanish", "french", "german", "italian", "portuguese")
VOICES = {
    "english": ("alba", "anna", "charles", "jane", "marius", "mary", "michael", "paul", "vera"),
    "spanish": ("lola",),
    "french": ("estelle",),
    "german": ("juergen",),
    "italian": ("giovanni",),
    "portuguese": ("rafael",),
}
"""Voices that need no sample, by the language that they were recorded in."""
LABELS = [f"{language}: {voice}" for language in LANGUAGES for voice in VOICES[language]]
CLONING, PLAIN = "kyutai/pocket-tts", "kyutai/pocket-tts-without-voice-cloning"
LICENCE = "the package: MIT; the weights: CC-BY-4.0, those that clone after a login"
PREFIX = "hf://"


def voice_here(
    label: str,
    sample: tuple[Tensor, int] | None,
    download: bool,
    progress: Callable[[int, int], None],
) -> PocketVoice:
    """The voice of a label of `LABELS`, or that of the sample in the label's language.

    Raises as `resolve_snapshot` does, or ModuleNotFoundError where ``pocket-tts`` is missing.
    """
    need("pocket_tts")
    language, _, name = label.partition(": ")
    config = _config(language)
    weights = config["weights_path" if sample is not None else "weights_path_without_voice_cloning"]
    tokenizer = config["flow_lm"]["lookup_table"]["tokenizer_path"]
    wanted = [weights, tokenizer]
    if sample is None:
        wanted.append(f"{PREFIX}{PLAIN}/languages/{language}/embeddings/{name}.safetensors")
    files = [_local(address, download, progress) for address in wanted]
    return PocketVoice(config, files, sample)


class PocketVoice:
    """See `conversation.roles.Voice`.

    Args:
        config: of the language, as the package has it.
        files: the weights, the tokenizer, and, without a sample, the voice.
    """

    def __init__(self, config: dict[str, Any], files: list[Path], sample: tuple[Tensor, int] | None) -> None:
        self._model = load(config, files[0], files[1])
        if sample is None:
            self._state = self._model.get_state_for_audio_prompt(files[2])
        else:
            samples, rate = sample
            prompt = resample(samples[None], rate, self._model.sample_rate)
            self._state = self._model.get_state_for_audio_prompt(prompt)
        self._worker = Worker("voice")

    async def probe(self) -> None:
        """Nothing can be missing."""

    async def speak(self, text: str) -> AsyncGenerator[tuple[Tensor, int], None]:
        """The sound of a sentence, in pieces as they are made."""
        stream = self._worker.stream(lambda put, stop: self._say(text, put, stop))
        try:
            async for samples in stream:
                yield samples, self._model.sample_rate
        finally:
            await stream.aclose()

    def _say(self, text: str, put: Callable[[Tensor], None], stop: threading.Event) -> None:
        for samples in self._model.generate_audio_stream(self._state, text, stop=stop):
            put(samples.detach().float().cpu())


def load(config: dict[str, Any], weights: Path | None, tokenizer: Path) -> Any:
    """The package's model with files that are there: by itself it would download them."""
    import yaml
    from pocket_tts import TTSModel

    own = dict(config, weights_path=weights and str(weights), weights_path_without_voice_cloning=None)
    lookup = dict(config["flow_lm"]["lookup_table"], tokenizer_path=str(tokenizer))
    own["flow_lm"] = dict(config["flow_lm"], lookup_table=lookup)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(own, allow_unicode=True), encoding="utf-8")
        return TTSModel.load_model(config=path)


def _config(language: str) -> dict[str, Any]:
    import pocket_tts
    import yaml

    path = Path(pocket_tts.__file__).parent / "config" / f"{language}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _local(address: str, download: bool, progress: Callable[[int, int], None]) -> Path:
    """A file of the hub, by the address that the package has for it: ``hf://owner/name/path@revision``."""
    place, _, _ = address.removeprefix(PREFIX).partition("@")
    owner, name, file = place.split("/", 2)
    return resolve_snapshot(f"{owner}/{name}", [file], roots(), download, progress) / file

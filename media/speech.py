"""Speech as it was said, or as it arrives: sound without features, because every engine hears something else in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from .audio import duration, mix, usable
from .speech_feed import SpeechFeed

Heard = TypeVar("Heard")

POLL_SECONDS = 0.05


@dataclass(frozen=True, eq=False)
class Speech:
    """The finished speech of one or several people, who start together.

    Attributes:
        sounds: ComfyUI AUDIO per speaker, each as `usable` gives it; the shorter ones end in silence.
        encoder: the audio encoder that the workflow offers. An engine with one of its own needs none.
        masks: the pixels of each speaker, [speakers, frames or 1, H, W]; None with a single speaker.
        heard: by an engine's name, what it has heard. See `remember`.
    """

    sounds: tuple[dict[str, Any], ...]
    encoder: Any = None
    masks: Tensor | None = None
    heard: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, audios: Sequence[Mapping | None], encoder: Any = None) -> Speech:
        """The speech of sounds of any node; ValueError in one sentence when there is none, or it is broken."""
        return cls(tuple(usable(audio) for audio in audios), encoder)

    @property
    def speakers(self) -> int:
        """How many people speak."""
        return len(self.sounds)

    @property
    def seconds(self) -> float:
        """Length until the last one has finished."""
        return max(map(duration, self.sounds))

    @cached_property
    def audio(self) -> dict[str, Any]:
        """ComfyUI AUDIO of all speakers together; the only one's own sound is not copied."""
        return self.sounds[0] if self.speakers == 1 else mix(self.sounds)

    def remember(self, engine: str, listen: Callable[[], Heard]) -> Heard:
        """What the engine of this name hears. It listens once, and again only after an error.

        The result is kept as long as the speech is, so another seed, portrait or setting does not listen again.
        """
        if engine not in self.heard:
            self.heard[engine] = listen()
        return self.heard[engine]


@dataclass(frozen=True, eq=False)
class LiveSpeech:
    """The speech of one person, which arrives while the video is made and can be heard once.

    Attributes:
        feed: source of the sound, and the sound of the video.
        max_seconds: the video's length at most; 0: until the feed ends.
        poll: called while waiting and before each piece, to fetch sound into the feed.
        encoder: the audio encoder that the workflow offers. An engine with one of its own needs none.
    """

    speakers: ClassVar[int] = 1
    masks: ClassVar[None] = None

    feed: SpeechFeed
    max_seconds: float = 0.0
    poll: Callable[[], None] = lambda: None
    encoder: Any = None

    @property
    def audio(self) -> SpeechFeed:
        """The sound of the video."""
        return self.feed

    def take(self, size: int, check_interrupt: Callable[[], None]) -> Tensor | None:
        """The next ``size`` samples [S] at the feed's rate as soon as they are there, or None at the end.

        ``check_interrupt`` is called while it waits too, and raises to stop.
        """
        while True:
            check_interrupt()
            self.poll()
            piece = self.feed.take(size)
            if not isinstance(piece, float):
                return piece
            self.feed.wait(min(piece, POLL_SECONDS))

    def take_back(self) -> bool:
        """Whether the piece that was taken last is void: see `SpeechFeed.take_back`."""
        self.poll()
        return self.feed.take_back()


def assign_masks(speech: Speech | LiveSpeech, masks: Sequence[Tensor]) -> Speech:
    """Say which pixels belong to which speaker.

    ``masks`` holds a ComfyUI MASK [H, W] or [frames, H, W] per speaker, at 25 frames per second; anything above
    0 marks the speaker. ValueError when their number or sizes do not fit, or one marks nothing.
    """
    if isinstance(speech, LiveSpeech) or speech.speakers == 1:
        raise ValueError(
            "Only one person speaks, who needs no mask; connect a second sound to LiveAvatar Encode Speech or "
            "leave out LiveAvatar Speaker Masks."
        )
    if len(masks) != speech.speakers:
        raise ValueError(
            f"There are {speech.speakers} speakers but {len(masks)} masks; connect one mask per speaker."
        )
    if any(mask.ndim < 2 or mask.numel() == 0 for mask in masks):
        raise ValueError("A speaker's mask has no pixels; paint one over the picture.")
    stacked = [mask.reshape(-1, *mask.shape[-2:]).float().cpu() for mask in masks]
    sizes = {tuple(mask.shape[-2:]) for mask in stacked}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise ValueError(
            f"The speakers' masks have different sizes ({found}); draw them on the same picture."
        )
    longest = max(len(mask) for mask in stacked)
    # The last frame of a shorter mask video, or of a single mask, is held.
    held = [mask[torch.arange(longest).clamp(max=len(mask) - 1)] for mask in stacked]
    marked = torch.stack(held)
    for speaker in range(len(marked)):
        # Where masks overlap, the later speaker is heard.
        if not ((marked[speaker] > 0) & ~(marked[speaker + 1 :] > 0).any(0)).any():
            raise ValueError(
                f"The mask of speaker {speaker + 1} is empty, or entirely covered by another speaker's; paint the "
                "area of that speaker's face and body."
            )
    return replace(speech, masks=marked)

"""Whether somebody may be interrupting, before a server far away has said so."""

from __future__ import annotations

from torch import Tensor

from .activity import Activity, best_activity
from .turns import Ended, Speaking, Turns

DUCK_SECONDS = 0.09
"""Speech, three windows of it, after which the page is mute for now."""
ANSWER_SECONDS = 1.0
"""In which a server says, after somebody has been silent again, that it has heard speech."""


class Onset:
    """Listens to the microphone while the avatar speaks; ``activity``: None: Silero VAD where it is installed, else
    loudness."""

    def __init__(self, rate: int, activity: Activity | None = None) -> None:
        self._turns = Turns(activity or best_activity(), rate, ANSWER_SECONDS, ANSWER_SECONDS)
        self._speech = False

    def hear(self, samples: Tensor) -> bool:
        """Whether to be mute after the next samples [S] of the microphone."""
        for event in self._turns.hear(samples):
            if isinstance(event, Ended):
                self._speech = False
            elif isinstance(event, Speaking) and event.seconds >= DUCK_SECONDS:
                self._speech = True
        return self._speech

    def reset(self) -> None:
        """The server has said what it was, or nobody speaks who could be interrupted."""
        self._turns.reset()
        self._speech = False

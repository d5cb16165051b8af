"""The state of a generation in a file, so that another process goes on with the video bit for bit, as if it had never
stopped.

Every block depends on all blocks before it, through the key-value caches. They are therefore kept as they are: 32 GB
at 704x384 in 4 steps of the 14B model in bf16. What follows from the inputs (condition, noise, text) is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..parts.saved_tensors import Lazily, read_metadata, save_tensors
from ..parts.wan.streaming import StreamingDecoder
from .condition import PRE_ROLL_FRAMES, PRIME_LATENTS
from .config import BLOCK_FRAMES, BLOCK_LATENTS
from .sampler import BlockSampler


class GenerationState:
    """Where one pass over a video is: handed to `generate`, then saved whenever the consumer wants to.

    Attributes:
        settling: whether the consumer waits for a block after which nothing is under way.
        at_rest: whether nothing works on the pass while its consumer has a block. A pass on several devices is so only
            after `settle`.

    Args:
        source: a saved state to go on from; None to begin at the beginning. ValueError when it cannot be read,
            is not what was saved, or belongs to another video.
        fingerprint: of what decides the video.
        check_interrupt: called while a saved state is looked through; raises to stop.
    """

    def __init__(
        self,
        source: Path | None = None,
        fingerprint: str = "",
        check_interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._source, self._fingerprint = source, fingerprint
        self._samplers: Sequence[BlockSampler] = ()
        self._decoder: StreamingDecoder | None = None
        self.settling, self.at_rest = False, True
        self._first_block = 0
        if source is not None:
            self._first_block = int(read_metadata(source, fingerprint, check_interrupt)["blocks"])

    @property
    def first_frame(self) -> int:
        """The video frame with which the pass begins."""
        return frames_of(self._first_block)

    @property
    def frames(self) -> int | None:
        """Video frames that the pass has reached; None while there is no whole block to go on from."""
        blocks = self._blocks()
        return frames_of(blocks) if blocks else None

    def _blocks(self) -> int | None:
        """Blocks that all samplers and the decoder have done; None while they differ or something is under way."""
        done = {sampler.block_index for sampler in self._samplers}
        if not self.at_rest or len(done) != 1:
            return None
        (blocks,) = done
        # A decoder that failed within a block is ahead of the sampler, or behind it.
        return blocks if self._decoder.latents == PRIME_LATENTS + blocks * BLOCK_LATENTS else None

    def settle(self) -> None:
        """Let the pass come to rest, as soon as what is under way has become frames, so that it can be saved."""
        self.settling = not self.at_rest

    def attach(self, samplers: Sequence[BlockSampler], decoder: StreamingDecoder) -> int:
        """Bring new samplers, which share the steps, and a decoder to where the pass begins; returns the block to
        generate next."""
        self._samplers, self._decoder = samplers, decoder
        if self._source is not None:
            try:
                with safe_open(self._source, "pt") as file:
                    saved = Lazily(file)
                    for sampler in samplers:
                        sampler.restore(saved, self._first_block)
                    decoder.restore(saved, PRIME_LATENTS + self._first_block * BLOCK_LATENTS)
            except (SafetensorError, KeyError, ValueError) as error:
                raise RuntimeError(
                    f"The snapshot {self._source} does not fit this run ({error}): it was saved with other memory "
                    "settings; use those again, or delete it to generate from the beginning."
                ) from error
        return self._first_block

    def release(self) -> None:
        """Let go of the samplers and their memory; nothing can be saved any more."""
        self._samplers, self._decoder = (), None

    def size(self) -> int:
        """Bytes that saving takes now."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def save(self, path: Path) -> None:
        """Replace the file in one step. Each tensor passes through the CPU's memory by itself. OSError when full."""
        if self.frames is None:
            raise RuntimeError("There is no whole block whose state could be saved.")
        for device in {sampler.device for sampler in self._samplers}:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        metadata = {"fingerprint": self._fingerprint, "blocks": str(self._blocks())}
        save_tensors(path, self._tensors(), metadata)

    def _tensors(self) -> dict[str, Tensor]:
        state = self._decoder.state()
        for sampler in self._samplers:
            state |= sampler.state()
        return state


def frames_of(blocks: int) -> int:
    """Video frames of the first ``blocks`` blocks."""
    return max(0, blocks * BLOCK_FRAMES - PRE_ROLL_FRAMES)

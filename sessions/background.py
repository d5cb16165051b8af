"""A stream with something else behind its person, which can be gone on with like the stream itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ..loaders.identity import fingerprint, weights_identity
from ..media.background import Matte, mask_matte, model_matte, put_behind
from ..media.frames import AvatarStream


def with_background(
    stream: AvatarStream, ground: Tensor, mask: Tensor | None, remover: Any | None
) -> AvatarStream:
    """The stream over a ground.

    Args:
        ground: colour [3] or picture [H, W, 3] from 0 to 1.
        mask: 1 where the person is; see `mask_matte`.
        remover: ComfyUI's BACKGROUND_REMOVAL in place of a mask; it looks at every frame.

    Raises:
        ValueError: there is neither a mask nor a model, or both, or the mask does not fit.
    """
    if (mask is None) == (remover is None):
        raise ValueError("Connect a mask or a background removal model, and not both.")
    if remover is None:
        matte, identity = mask_matte(mask, stream.height, stream.width), mask
    else:
        matte = model_matte(remover.encode_image)
        identity = partial(weights_identity, remover.model.named_parameters())
    return stream.changed(
        partial(_blocks, stream, matte, ground),
        resumable=stream.resumable
        and replace(stream.resumable, fingerprint=partial(_fingerprint, stream, ground, identity)),
    )


def _blocks(stream: AvatarStream, matte: Matte, ground: Tensor, state: Any = None) -> Iterator[Tensor]:
    first = 0 if state is None else state.first_frame
    for block in stream.blocks(state):
        yield put_behind(block, matte(block, first), ground)
        first += len(block)


def _fingerprint(stream: AvatarStream, ground: Tensor, identity: Any) -> str:
    return fingerprint(stream.resumable.fingerprint(), ground, identity() if callable(identity) else identity)

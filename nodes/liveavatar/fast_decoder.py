"""The node that loads a small decoder for the sampler."""

from __future__ import annotations

from comfy_api.latest import io

from ...loaders.wan.fast_decoder import decoder_names, load_in_host
from ..schema import Node, schema
from ..types import AvatarDecoder


class LiveAvatarLoadFastDecoder(Node):
    """Loads a decoder that is much faster than the VAE's and somewhat less sharp."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarLoadFastDecoder",
            search_aliases=["taehv", "taew2_1", "lighttaew2_1", "tiny vae", "fast vae", "light tae"],
            display_name="LiveAvatar Load Fast Decoder",
            description=(
                "Loads a small decoder for Wan 2.1's latents. Connected to LiveAvatar Sampler, it makes the pictures "
                "in place of the VAE: many times faster, somewhat softer. The VAE still encodes the portrait."
            ),
            inputs=[
                io.Combo.Input(
                    "decoder",
                    options=decoder_names(),
                    tooltip=(
                        "Files in models/vae_approx and models/vae with taew2_1 in their name: taew2_1 (MIT) or "
                        "lighttaew2_1 (Apache-2.0)."
                    ),
                ),
            ],
            outputs=[AvatarDecoder.Output(display_name="decoder")],
        )

    @classmethod
    def execute(cls, decoder: str) -> io.NodeOutput:
        return io.NodeOutput(load_in_host(decoder))

"""Key names and shapes of the published checkpoint files, for any sizes.

At the published sizes these give 1260 transformer tensors, 194 of the VAE, 242 of the text encoder and 896 of
the LoRA.
"""

from __future__ import annotations

Shape = tuple[int, ...]

AUDIO_LAYERS = 25
VAE_LATENT = 16


def transformer_shapes(
    dim: int, ffn_dim: int, layers: int, injectors: int, text_dim: int, audio_dim: int
) -> dict[str, Shape]:
    """Key -> shape of the S2V transformer (16 latent channels, patch 1x2x2, 25 audio layers)."""
    shapes: dict[str, Shape] = {}

    def affine(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = (weight[0],)

    def attention(name: str) -> None:
        for part in "qkvo":
            affine(f"{name}.{part}", dim, dim)
        for part in ("norm_q", "norm_k"):
            shapes[f"{name}.{part}.weight"] = (dim,)

    affine("patch_embedding", dim, 16, 1, 2, 2)
    affine("cond_encoder", dim, 16, 1, 2, 2)
    affine("text_embedding.0", dim, text_dim)
    affine("text_embedding.2", dim, dim)
    affine("time_embedding.0", dim, 256)
    affine("time_embedding.2", dim, dim)
    affine("time_projection.1", 6 * dim, dim)
    shapes["trainable_cond_mask.weight"] = (3, dim)
    for i in range(layers):
        shapes[f"blocks.{i}.modulation"] = (1, 6, dim)
        attention(f"blocks.{i}.self_attn")
        shapes[f"blocks.{i}.norm3.weight"] = shapes[f"blocks.{i}.norm3.bias"] = (dim,)
        attention(f"blocks.{i}.cross_attn")
        affine(f"blocks.{i}.ffn.0", ffn_dim, dim)
        affine(f"blocks.{i}.ffn.2", dim, ffn_dim)
    shapes["head.modulation"] = (1, 2, dim)
    affine("head.head", 64, dim)
    shapes["casual_audio_encoder.weights"] = (1, AUDIO_LAYERS, 1, 1)
    shapes["casual_audio_encoder.encoder.padding_tokens"] = (1, 1, 1, dim)
    affine("casual_audio_encoder.encoder.conv1_local.conv", dim, audio_dim, 3)
    affine("casual_audio_encoder.encoder.conv1_global.conv", dim // 4, audio_dim, 3)
    affine("casual_audio_encoder.encoder.conv2.conv", dim // 2, dim // 4, 3)
    affine("casual_audio_encoder.encoder.conv3.conv", dim, dim // 2, 3)
    affine("casual_audio_encoder.encoder.final_linear", dim, dim)
    for j in range(injectors):
        attention(f"audio_injector.injector.{j}")
        affine(f"audio_injector.injector_adain_layers.{j}.linear", 2 * dim, dim)
    affine("frame_packer.proj", dim, 16, 1, 2, 2)
    affine("frame_packer.proj_2x", dim, 16, 2, 4, 4)
    affine("frame_packer.proj_4x", dim, 16, 4, 8, 8)
    return shapes


def vae_shapes(width: int) -> dict[str, Shape]:
    """Key -> shape of the Wan 2.1 VAE with base width ``width`` (96 in the published file)."""
    shapes: dict[str, Shape] = {}

    def conv(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = (weight[0],)

    def residual(name: str, inner: int, outer: int) -> None:
        shapes[f"{name}.residual.0.gamma"] = (inner, 1, 1, 1)
        conv(f"{name}.residual.2", outer, inner, 3, 3, 3)
        shapes[f"{name}.residual.3.gamma"] = (outer, 1, 1, 1)
        conv(f"{name}.residual.6", outer, outer, 3, 3, 3)
        if inner != outer:
            conv(f"{name}.shortcut", outer, inner, 1, 1, 1)

    def middle(name: str, channels: int) -> None:
        residual(f"{name}.middle.0", channels, channels)
        shapes[f"{name}.middle.1.norm.gamma"] = (channels, 1, 1)
        conv(f"{name}.middle.1.to_qkv", 3 * channels, channels, 1, 1)
        conv(f"{name}.middle.1.proj", channels, channels, 1, 1)
        residual(f"{name}.middle.2", channels, channels)

    def head(name: str, inner: int, outer: int) -> None:
        shapes[f"{name}.head.0.gamma"] = (inner, 1, 1, 1)
        conv(f"{name}.head.2", outer, inner, 3, 3, 3)

    w1, w2, w4, z = width, 2 * width, 4 * width, VAE_LATENT
    conv("encoder.conv1", w1, 3, 3, 3, 3)
    position = 0
    for inner, outer, down in ((w1, w1, "2d"), (w1, w2, "3d"), (w2, w4, "3d"), (w4, w4, None)):
        residual(f"encoder.downsamples.{position}", inner, outer)
        residual(f"encoder.downsamples.{position + 1}", outer, outer)
        if down:
            conv(f"encoder.downsamples.{position + 2}.resample.1", outer, outer, 3, 3)
        if down == "3d":
            conv(f"encoder.downsamples.{position + 2}.time_conv", outer, outer, 3, 1, 1)
        position += 3
    middle("encoder", w4)
    head("encoder", w4, 2 * z)
    conv("conv1", 2 * z, 2 * z, 1, 1, 1)
    conv("conv2", z, z, 1, 1, 1)
    conv("decoder.conv1", w4, z, 3, 3, 3)
    middle("decoder", w4)
    position = 0
    # up-sampling halves the channels, so every stage but the first starts from half the width before it
    for inner, outer, up in ((w4, w4, "3d"), (w2, w4, "3d"), (w2, w2, "2d"), (w1, w1, None)):
        residual(f"decoder.upsamples.{position}", inner, outer)
        residual(f"decoder.upsamples.{position + 1}", outer, outer)
        residual(f"decoder.upsamples.{position + 2}", outer, outer)
        if up:
            conv(f"decoder.upsamples.{position + 3}.resample.1", outer // 2, outer, 3, 3)
        if up == "3d":
            conv(f"decoder.upsamples.{position + 3}.time_conv", 2 * outer, outer, 3, 1, 1)
        position += 4
    head("decoder", w1, 3)
    return shapes


def text_encoder_shapes(
    vocabulary: int, dim: int, dim_attn: int, ffn_dim: int, heads: int, layers: int
) -> dict[str, Shape]:
    """Key -> shape of the UMT5 encoder in the published ``.pth`` naming."""
    shapes: dict[str, Shape] = {"token_embedding.weight": (vocabulary, dim)}
    for i in range(layers):
        block = f"blocks.{i}"
        shapes[f"{block}.norm1.weight"] = shapes[f"{block}.norm2.weight"] = (dim,)
        shapes |= {f"{block}.attn.{part}.weight": (dim_attn, dim) for part in "qkv"}
        shapes[f"{block}.attn.o.weight"] = (dim, dim_attn)
        shapes[f"{block}.ffn.gate.0.weight"] = shapes[f"{block}.ffn.fc1.weight"] = (ffn_dim, dim)
        shapes[f"{block}.ffn.fc2.weight"] = (dim, ffn_dim)
        shapes[f"{block}.pos_embedding.embedding.weight"] = (32, heads)
    shapes["norm.weight"] = (dim,)
    return shapes


def lora_shapes(transformer: dict[str, Shape], rank: int) -> dict[str, Shape]:
    """Key -> shape of the LiveAvatar LoRA: q, k, v, o, ffn.0 and ffn.2 of all blocks and injectors."""
    shapes: dict[str, Shape] = {}
    for key, shape in transformer.items():
        module = key.removesuffix(".weight")
        target = module.endswith((".q", ".k", ".v", ".o", ".ffn.0", ".ffn.2"))
        if target and key.endswith(".weight"):
            shapes[f"{module}.lora_A.default.weight"] = (rank, shape[1])
            shapes[f"{module}.lora_B.default.weight"] = (shape[0], rank)
    return shapes

"""PersonaLive from end to end: portrait in, driving frames in, animated frames out, four at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from ..gpu.transfer import beside, fetch, hand_over, send
from ..parts.face.boxes import check_boxes
from ..parts.face.keypoints import Pose, draw, drive, face_boxes, ramp, ramp_poses
from ..parts.face.motion_extractor import IMAGE_SIZE, MotionExtractor
from .codec import Codec
from .config import FACE_SIZE, VAE_STRIDE, StreamConfig
from .image_encoder import ImageEncoder
from .keyframes import KeyframeMemory
from .motion import Motion, mirrored
from .pose_guider import PoseGuider
from .preprocess import crop_resize, lanczos, resize, to_pil, to_uint8
from .reference_bank import ReferenceBank
from .scheduler import Scheduler
from .window import Window

if TYPE_CHECKING:
    from .denoising_unet import DenoisingUNet
    from .motion_encoder import MotionEncoder
    from .reference_unet import ReferenceUNet

Noise = Callable[[tuple[int, ...]], Tensor]
Image_ = Image.Image | Tensor


@dataclass(frozen=True)
class Portrait:
    """A portrait as the networks know it.

    Attributes:
        latent: [1, 4, h, w].
        image_token: CLIP's embedding, [1, 1, 768].
        pose: the pose of the head.
        tokens: its expression, [1, 32, 16].
    """

    latent: Tensor
    image_token: Tensor
    pose: Pose
    tokens: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.latent.shape[-2] * VAE_STRIDE, self.latent.shape[-1] * VAE_STRIDE

    def to(self, device: torch.device | str) -> Portrait:
        return Portrait(
            self.latent.to(device), self.image_token.to(device), self.pose.to(device), self.tokens.to(device)
        )


@dataclass
class PersonaLive:
    """The networks, and how they work together. All are in eval mode on one device.

    The calls ``denoise``, ``encode_motion``, ``extract_pose`` and ``guide_pose`` start as the networks
    themselves and may be replaced by compiled or captured versions of them. ``feature_rounding`` is the type
    that reference features are rounded to (the original rounds to float16 whatever the model's type); None
    leaves them as they are. ``reading`` is a CUDA stream on which portraits and driving frames are read while others
    are drawn; graphs that are captured for either must then not share memory (`graphs.GraphLane`).
    """

    denoising_unet: DenoisingUNet
    reference_unet: ReferenceUNet
    motion_encoder: MotionEncoder
    motion_extractor: MotionExtractor
    pose_guider: PoseGuider
    image_encoder: ImageEncoder
    codec: Codec
    scheduler: Scheduler = field(default_factory=Scheduler)
    feature_rounding: torch.dtype | None = None
    reading: torch.cuda.Stream | None = None

    def __post_init__(self) -> None:
        self.use_networks()

    def use_networks(self) -> None:
        """Make every call the network itself."""
        self.denoise: Callable[..., Tensor] = self.denoising_unet
        self.encode_motion: Callable[[Tensor], Tensor] = self.motion_encoder
        self.extract_pose: Callable[[Tensor], tuple[Tensor, ...]] = self.motion_extractor
        self.guide_pose: Callable[[Tensor], Tensor] = self.pose_guider

    @property
    def device(self) -> torch.device:
        return self.denoising_unet.conv_in.weight.device

    @torch.inference_mode()
    def portrait(self, image: Image_, height: int, width: int, box: Tensor | None = None) -> Portrait:
        """Everything about a portrait that does not depend on the driving video.

        Args:
            image: PIL or uint8 ``[H, W, 3]``; it is stretched to height x width (multiples of 64), so crop it before.
            box: the face, ``[4]`` (x1, y1, x2, y2 in pixels of height x width); by default the model's own keypoints
                find it.

        Raises:
            ValueError: the sizes do not fit, or no face is found.
        """
        check_size(height, width)
        image = to_pil(image)
        pixels = lanczos(image, height, width).to(self.device) * 2 - 1
        with beside(self.reading, pixels):
            pose = Pose(*self.extract_pose(lanczos(image, IMAGE_SIZE, IMAGE_SIZE).to(self.device)))
            boxes = face_boxes(pose.project(), height, width) if box is None else box[None].to(self.device)
            check_boxes(boxes, ["the portrait"])
            tokens = self.encode_motion(crop_resize(pixels, boxes, FACE_SIZE))
        hand_over(Motion(pose, tokens).tensors())
        token = self.image_encoder.token(image).to(self.device)
        width = self.denoising_unet.config.cross_attention_dim
        if token.shape[-1] != width:
            raise ValueError(
                f"The image encoder makes tokens of width {token.shape[-1]}, but the UNet takes {width}; use "
                "CLIP ViT-L/14 with projection."
            )
        return Portrait(self.codec.encode(pixels), token, pose, tokens)

    @torch.inference_mode()
    def observe(self, frames: Tensor, boxes: Tensor | None = None, first: int = 0) -> Motion:
        """Motion of driving frames uint8 ``[n, H, W, 3]`` (square, the head as in the portrait).

        Args:
            boxes: ``[n, 4]`` face boxes in pixels, from the model's own keypoints by default.
            first: number of the first frame, for error messages.

        Raises:
            FaceNotFoundError: a frame has no usable box; the message names it.
        """
        with beside(self.reading, frames, boxes):
            pixels = send(frames, self.device).permute(0, 3, 1, 2).float() / 255 * 2 - 1
            pose = Pose(*self.extract_pose(resize(pixels, IMAGE_SIZE) / 2 + 0.5))
            if boxes is None:
                boxes = face_boxes(pose.project(), *pixels.shape[-2:])
            check_boxes(boxes, [f"frame {first + i}" for i in range(len(frames))])
            motion = Motion(pose, self.encode_motion(crop_resize(pixels, boxes, FACE_SIZE)))
        hand_over(motion.tensors())
        return motion

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 ``[n, H, W, 3]`` of clean latents ``[n, 4, h, w]``, on the engine's device."""
        return to_uint8(self.codec.decode(latents)).permute(0, 2, 3, 1)

    def stream(self, portrait: Portrait, config: StreamConfig | None = None, seed: int = 0) -> Stream:
        """A live session: push four frames of motion, get four frames of video."""
        return Stream(self, portrait, config or StreamConfig(), seeded_noise(seed))

    def animate(
        self,
        portrait: Portrait,
        motion: Iterable[Motion],
        config: StreamConfig | None = None,
        seed: int = 0,
        lead_in: bool = False,
        check_interrupt: Callable[[], None] = lambda: None,
    ) -> Iterator[Tensor]:
        """Video of the portrait following a driving motion: uint8 ``[<=4, H, W, 3]`` on the CPU, lazily.

        One frame comes out per driving frame, in memory that does not depend on their number; to flush the
        window the motion is continued backwards from its end. ``lead_in`` also yields the 12 frames before it
        in which the portrait moves from its own pose to the first driving frame.
        """
        config = config or StreamConfig()
        stream = self.stream(portrait, config, seed)
        waiting: list[int] = []
        ramp_chunks = config.piles - 1
        made: Callable[[], Tensor] | None = None
        for chunk, own in mirrored(motion, config.chunk, config.ramp):
            check_interrupt()
            latents = stream.push_latents(chunk, check_interrupt)
            waiting.append(own)
            on_the_way = stream.count <= ramp_chunks
            keep = config.chunk * lead_in if on_the_way else waiting.pop(0)
            if not keep:
                continue
            # handed on when the next chunk is on its way, so that a GPU never waits for the reader of the frames
            ready, made = made, fetch(self.decode(latents)[:keep])
            if ready is not None:
                yield ready()
        if made is not None:
            yield made()


class Stream:
    """One portrait being driven. Frames come out three chunks after the driving frames they follow."""

    def __init__(self, engine: PersonaLive, portrait: Portrait, config: StreamConfig, noise: Noise):
        self.engine, self.portrait, self.config = engine, portrait, config
        self._draw_noise = noise
        self.count = 0
        self.keyframes = 0
        self.memory = KeyframeMemory(portrait.tokens, config.keyframe_threshold)
        self._first_translation: Tensor | None = None
        with torch.inference_mode():
            self.bank = ReferenceBank(engine.denoising_unet, portrait.image_token, engine.feature_rounding)
            self.bank.add(engine.reference_unet(portrait.latent, portrait.image_token))
            levels = engine.scheduler.window_timesteps(config)[0]
            self._newest = levels[-config.chunk :].to(engine.device)
            clean = portrait.latent.expand(config.ramp, -1, -1, -1)
            latents = engine.scheduler.add_noise(clean, self._noise(config.ramp), levels[: config.ramp])
        dtype, channels = (
            engine.denoising_unet.conv_in.weight.dtype,
            engine.denoising_unet.conv_in.out_channels,
        )
        no_motion = portrait.tokens.new_empty((0, *portrait.tokens.shape[1:]))
        no_pose = torch.empty((0, channels, *latents.shape[-2:]), device=latents.device, dtype=dtype)
        self.window = Window(config, engine.scheduler, latents, no_motion, no_pose)

    def _noise(self, frames: int) -> Tensor:
        """Standard normal ``[frames, 4, h, w]``, drawn in the reference's layout."""
        latent = self.portrait.latent
        noise = self._draw_noise((1, latent.shape[1], frames, *latent.shape[-2:]))
        return send(noise[0].transpose(0, 1), latent.device).to(latent.dtype)

    @torch.inference_mode()
    def push(self, motion: Motion, check_interrupt: Callable[[], None] = lambda: None) -> Tensor:
        """The next frames of driving motion (as many as a chunk); returns uint8 ``[chunk, H, W, 3]``.

        The first three calls return the way from the portrait to the first driving frame.
        """
        latents = self.push_latents(motion, check_interrupt)
        return self.engine.decode(latents)

    @torch.inference_mode()
    def push_latents(self, motion: Motion, check_interrupt: Callable[[], None] = lambda: None) -> Tensor:
        """`push` before decoding: clean latents ``[chunk, 4, h, w]``."""
        config, scheduler = self.config, self.engine.scheduler
        if len(motion) != config.chunk:
            raise ValueError(
                f"A stream takes {config.chunk} driving frames at a time, but got {len(motion)}."
            )
        tokens, poses = self._driven(motion.to(self.engine.device))
        features = self.engine.guide_pose(draw(poses.project(), *self.portrait.size))
        clean = self.portrait.latent.expand(config.chunk, -1, -1, -1)
        newest = scheduler.add_noise(clean, self._noise(config.chunk), self._newest)
        self.window.append(newest, tokens, features)

        remember = self._is_keyframe()
        done = self.window.advance(self._denoise, check_interrupt)
        if remember:
            self.bank.add(self.engine.reference_unet(done[:1], self.portrait.image_token))
            self.keyframes += 1
        self.count += 1
        return done

    def _denoise(self, latents: Tensor, timesteps: Tensor, motion: Tensor, pose: Tensor) -> Tensor:
        # the memory order is always the same, so that captured and compiled versions see one kind of input
        latents, motion = (x.to(pose.dtype).contiguous() for x in (latents, motion))
        return self.engine.denoise(latents, timesteps, motion, pose, self.bank.contexts)

    def _driven(self, motion: Motion) -> tuple[Tensor, Pose]:
        """Tokens and poses to append: the chunk's own, and before the first one the way to it."""
        config, portrait = self.config, self.portrait
        first = self._first_translation is None
        if first:
            self._first_translation = motion.pose.translation[:1]
        tokens, strength = motion.tokens.to(portrait.tokens.dtype), config.motion_strength
        if strength != 1.0:
            tokens = portrait.tokens + strength * (tokens - portrait.tokens)
        poses = drive(portrait.pose, motion.pose, self._first_translation, config.pose_strength)
        if first:
            way = ramp_poses(portrait.pose, poses[:1], config.ramp)
            tokens = torch.cat([ramp(portrait.tokens, tokens[:1], config.ramp), tokens])
            poses = Motion.concat(
                [Motion(way, tokens[: config.ramp]), Motion(poses, tokens[config.ramp :])]
            ).pose
        return tokens, poses

    def _is_keyframe(self) -> bool:
        """Whether the oldest frame in the window is to be remembered. No test once the memory is full."""
        if self.count < self.config.keyframe_after or self.keyframes >= self.config.max_keyframes:
            return False
        return self.memory.accept(self.window.motion[:1])


def seeded_noise(seed: int) -> Noise:
    """Noise from a seed, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator)


def check_size(height: int, width: int) -> None:
    """ValueError unless both sides are multiples of 64 between 128 and 2048."""
    for name, value in (("height", height), ("width", width)):
        if value % 64 or not 128 <= value <= 2048:
            raise ValueError(f"The {name} must be a multiple of 64 between 128 and 2048, but it is {value}.")

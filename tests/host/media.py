"""Inputs that the tests make, and what they look at in the videos that come out."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tools.demo_media import portrait, speech

SECONDS, FRAMES = 1.13, 29  # of speech.wav, and of a video at 25 fps that shows all of it


@dataclass(frozen=True)
class Video:
    """What a video file holds. ``frames`` is uint8 [F, H, W, 3]; times are in seconds."""

    frames: np.ndarray
    fps: Fraction
    video_start: float
    audio_rate: int
    audio_channels: int
    audio_start: float
    audio_seconds: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.frames.shape[2], self.frames.shape[1]


def read_video(path: Path) -> Video:
    """Decode a whole video file with its sound."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        pictures, sounds = [], []
        for frame in container.decode(video, audio):
            (pictures if isinstance(frame, av.VideoFrame) else sounds).append(frame)
        return Video(
            frames=np.stack([picture.to_ndarray(format="rgb24") for picture in pictures]),
            fps=video.average_rate,
            video_start=float(pictures[0].time),
            audio_rate=audio.rate,
            audio_channels=audio.channels,
            audio_start=float(sounds[0].time),
            audio_seconds=sum(sound.samples for sound in sounds) / audio.rate,
        )


def check_talks(video: Video, size: tuple[int, int], frames: int, rate: int, channels: int | None) -> None:
    """Assert that a video has this size, length and sound, that both start at 0 and that the picture moves.

    ``channels`` is None for a video of ComfyUI's Save Video, which wrote two where newer ones keep one.
    """
    assert video.size == size
    assert video.fps == 25
    assert len(video.frames) == frames
    assert video.audio_rate == rate
    assert video.audio_channels == channels or (channels is None and video.audio_channels in (1, 2))
    assert (video.video_start, video.audio_start) == (0, 0)
    # As long as the picture: less what the last frame shows beyond the sound, plus what an AAC packet is filled with.
    assert -0.04 <= video.audio_seconds - frames / 25 <= 1024 / rate
    assert all(frame.std() > 5 for frame in video.frames)
    if frames > 1:
        assert np.abs(np.diff(video.frames.astype(int), axis=0)).mean(axis=(1, 2, 3)).min() > 0.1


def make_inputs(folder: Path) -> None:
    """Write every input that the shipped workflows name, small, into ``folder``."""
    face = Image.open(portrait(folder / "face.png"))
    face.crop((128, 0, 384, 512)).save(folder / "portrait.png")
    both = Image.new("RGB", (1024, 512))
    both.paste(face, (0, 0))
    both.paste(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (512, 0))
    both.save(folder / "two_people.png")
    speech(folder / "speech.wav", SECONDS)
    write_wav(folder / "speech_2.wav", tone(0.9, 44_100, 2, pitch=220), 44_100)
    write_pose(folder / "pose.mp4", frames=36)


def tone(seconds: float, rate: int, channels: int, pitch: float = 150) -> np.ndarray:
    """A voice-like buzz as float [samples, channels]: harmonics of ``pitch``, swelling four times a second."""
    time = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * pitch * n * time) / n for n in range(1, 12))
    sound *= 0.2 * np.sin(2 * np.pi * 2 * time) ** 2
    return np.stack([sound * (1 - 0.3 * channel) for channel in range(channels)], axis=1)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """A 16-bit WAV from float samples [samples, channels]."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def encode_audio(path: Path, codec: str, sample_format: str, samples: np.ndarray, rate: int) -> None:
    """A sound file of the kind that its suffix says; samples as float [samples, channels]."""
    with av.open(str(path), "w") as out:
        layout = "mono" if samples.shape[1] == 1 else "stereo"
        stream = out.add_stream(codec, rate=rate, layout=layout, format=sample_format)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T, dtype=np.float32), format="fltp", layout=layout
        )
        frame.sample_rate = rate
        convert = av.AudioResampler(format=sample_format, layout=layout, rate=rate, frame_size=1152)
        for piece in [*convert.resample(frame), *convert.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))


def write_pose(path: Path, frames: int) -> None:
    """A stick figure that raises its arms, 30 frames per second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 128, "yuv420p"
        for index in range(frames):
            picture = np.zeros((128, 64, 3), np.uint8)
            picture[30:90, 31:34] = (255, 80, 0)
            picture[60 - index : 63 - index, 8:56] = (0, 200, 255)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())


def write_odd_media(folder: Path) -> None:
    """Pictures and sounds that are not what a node would like."""
    face = Image.open(folder / "portrait.png")
    face.resize((16, 16)).save(folder / "tiny.png")
    face.resize((8000, 6000)).save(folder / "huge.jpg")
    face.convert("L").save(folder / "grey.png")
    Image.merge("RGBA", [*face.split(), Image.linear_gradient("L").resize(face.size)]).save(
        folder / "alpha.png"
    )
    write_wav(folder / "short.wav", tone(0.1, 16_000, 1), 16_000)
    write_wav(folder / "silent.wav", np.zeros((16_000, 1)), 16_000)
    write_wav(folder / "telephone.wav", tone(0.5, 8_000, 1), 8_000)
    write_wav(folder / "studio.wav", tone(0.5, 96_000, 2), 96_000)
    encode_audio(folder / "voice.mp3", "libmp3lame", "fltp", tone(0.5, 44_100, 2), 44_100)
    encode_audio(folder / "voice.flac", "flac", "s16", tone(0.5, 48_000, 1), 48_000)
    broken = tone(0.5, 16_000, 1)
    broken[1000:1010] = np.nan
    encode_audio(folder / "nan.wav", "pcm_f32le", "flt", broken, 16_000)

"""H.264 and AAC as a series of mp4 fragments: one per block of frames, complete as soon as the block is.

Joined together the fragments are an mp4 file that plays at every length, and each is a segment that a
browser's Media Source can append. libavformat's own muxer holds the newest fragment back until the next
key frame arrives, so each block is muxed on its own, with time stamps that continue those of the one before.
A key frame is seen as a small jump of the picture, so one encoder goes on over the blocks of KEY_SECONDS.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from fractions import Fraction

import av
import torch

from .audio import converted, resample, usable
from .speech_feed import SpeechFeed

MOVFLAGS = "empty_moov+default_base_moof+delay_moov+use_metadata_tags"
AAC_FRAME = 1024  # samples per AAC packet
LIVE_RATE = 48_000
"""Live sound has this rate at least: AAC's packets are shorter then, so less sound waits for what comes behind it."""
KEY_SECONDS = 2
"""The first block that begins in each stretch of so many seconds of a video begins with a key frame."""
WARM_UP = 64  # packets that are encoded and thrown away where an encoder begins in the middle
AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1"}
# H.264's colour description: sRGB's primaries, BT.709's transfer, and the BT.601 matrix, which swscale uses and
# which readers that ignore the description (OpenCV, older PyAV) assume.
BT709, BT601, LIMITED = 1, 6, 1


class FragmentEncoder:
    """Encodes blocks of frames, with their part of ``audio``, to the bytes of mp4 fragments.

    The sound of n frames is the first round(n / fps * rate) samples; audio that ends before the picture goes
    on as silence. Its rate and channels are kept where AAC can carry them: another rate becomes the next
    higher AAC rate (at most 96 kHz), and more than 6 channels become their mean. Live sound (a SpeechFeed) has
    48 kHz at least; its last 0.06 s come in the fragment after their picture's, since the sound encoder looks
    ahead. ``crf`` and ``preset`` are libx264's. ``frames`` and ``fragments`` say what an earlier encoder with the
    same arguments has made already: this one goes on behind it, with a key frame. From the next key frame on that
    both have, its pictures are the other's, bit for bit.

    Attributes:
        joinable: whether the newest fragment begins with a key frame, so that a player can begin there.

    Raises:
        ValueError: a side is odd, which H.264 in yuv420p cannot carry, or the audio is bad.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        fps: float = 25,
        audio: Mapping | SpeechFeed | None = None,
        crf: int = 18,
        preset: str = "veryfast",
        metadata: Mapping[str, object] | None = None,
        frames: int = 0,
        fragments: int = 0,
    ) -> None:
        if width <= 0 or height <= 0 or width % 2 or height % 2:
            raise ValueError(
                f"An mp4 video needs even sides, not {width}x{height}: crop or resize it by one pixel."
            )
        if fps <= 0:
            raise ValueError(f"A video needs a frame rate above 0, not {fps}.")
        self.width, self.height = width, height
        self.fps = Fraction(fps).limit_denominator(1001)
        self.frames, self.fragments = frames, fragments  # encoded so far
        self._metadata = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in (metadata or {}).items()
        }
        # It holds no frame back, so a block's last one comes with the block; key frames are ours to place.
        self._options = {"crf": str(crf), "preset": preset, "tune": "zerolatency"}
        self._options |= {"g": "1000000", "sc_threshold": "0"}
        self._encoder: av.VideoCodecContext | None = None
        self._stretch = -1  # in which the newest block begins
        self.joinable = False
        self._sound = None if audio is None else _Sound(audio)
        if self._sound and frames:
            self._sound.go_on_at(self.audio_samples)
        self._profile = b""

    @property
    def audio_samples(self) -> int:
        """Samples of sound that belong to the frames encoded so far."""
        return round(self.frames / self.fps * self._sound.rate) if self._sound else 0

    @property
    def mime_type(self) -> str:
        """The type for ``MediaSource.addSourceBuffer``, known once the first block is encoded."""
        if not self._profile:
            raise RuntimeError("The stream's type is known only after its first block.")
        codecs = [f"avc1.{self._profile.hex()}"] + (["mp4a.40.2"] if self._sound else [])
        return f'video/mp4; codecs="{", ".join(codecs)}"'

    def encode(self, frames: torch.Tensor) -> bytes:
        """Encode one block, uint8 [F, H, W, 3] on the CPU; returns its fragment. The first one begins with
        the file header."""
        if (
            frames.dtype != torch.uint8
            or tuple(frames.shape[1:]) != (self.height, self.width, 3)
            or len(frames) == 0
        ):
            raise ValueError(
                f"A block must be uint8 [frames, {self.height}, {self.width}, 3], "
                f"not {frames.dtype} {list(frames.shape)}."
            )
        options = {"movflags": MOVFLAGS}
        if self.fragments:
            # Time stamps go on from the block before instead of starting at 0.
            options = {"movflags": MOVFLAGS + "+frag_discont", "fragment_index": str(self.fragments + 1)}
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4", options=options) as container:
            container.metadata.update(self._metadata)
            video = self._video_stream(container)
            audio = self._sound.stream(container) if self._sound else None
            self._begin_stretch()
            for picture in self._pictures(frames):
                for packet in self._encoder.encode(picture):
                    packet.stream = video
                    container.mux(packet)
            self._profile = _profile(video.codec_context.extradata)
            for packet in self._sound.until(self.audio_samples) if self._sound else ():
                packet.stream = audio
                if self.fragments:
                    # The header's edit list skips the encoder's priming samples, which come before time 0;
                    # a muxer that did not write that header knows nothing of them.
                    packet.pts += self._sound.priming
                    packet.dts += self._sound.priming
                container.mux(packet)
        wanted = ("moof", "mdat") if self.fragments else ("ftyp", "moov", "moof", "mdat")
        self.fragments += 1
        return _boxes(buffer.getvalue(), wanted)

    def _begin_stretch(self) -> None:
        """Take a fresh encoder, which begins with a key frame, where a stretch of KEY_SECONDS has begun.

        The places depend on nothing that was before, so they are those of a video that was never interrupted."""
        stretch = int(self.frames / self.fps / KEY_SECONDS)
        self.joinable = stretch != self._stretch
        if self.joinable:
            self._stretch = stretch
            self._encoder = av.CodecContext.create("libx264", "w")
            self._set_up(self._encoder)

    def _video_stream(self, container: av.container.OutputContainer) -> av.VideoStream:
        """A stream of ``container`` for the encoder's packets."""
        stream = container.add_stream("libx264", rate=self.fps)
        self._set_up(stream.codec_context)
        return stream

    def _set_up(self, encoder: av.VideoCodecContext) -> None:
        encoder.width, encoder.height, encoder.pix_fmt = self.width, self.height, "yuv420p"
        encoder.framerate, encoder.time_base = self.fps, 1 / self.fps
        encoder.color_primaries = encoder.color_trc = BT709
        encoder.colorspace, encoder.color_range = BT601, LIMITED
        # The parameters of the stream are in the file's header, and not once more in each key frame.
        encoder.options = {**self._options, "flags": "+global_header"}

    def _pictures(self, frames: torch.Tensor) -> Iterator[av.VideoFrame]:
        for pixels in frames.contiguous().numpy():
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = self.frames, 1 / self.fps
            self.frames += 1
            yield picture


class _Finished:
    """AUDIO at a rate and with channels that AAC can carry, read as a SpeechFeed is."""

    def __init__(self, audio: Mapping) -> None:
        audio = usable(audio)
        source_rate, rates = audio["sample_rate"], av.Codec("aac", "w").audio_rates
        self.rate = min((rate for rate in rates if rate >= source_rate), default=max(rates))
        self._waveform = audio["waveform"][0]
        if self.rate != source_rate:
            if len(self._waveform) not in AAC_LAYOUTS:
                self._waveform = self._waveform.mean(dim=0, keepdim=True)
            self._waveform = resample(self._waveform, source_rate, self.rate)
        self.channels = len(self._waveform) if len(self._waveform) in AAC_LAYOUTS else 1

    def ready(self, shown: int) -> float:
        """Samples that are final."""
        return float("inf")

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Samples [channels, S], silence behind the end."""
        window = self._waveform[:, start:stop]
        if len(window) != self.channels:
            window = window.mean(dim=0, keepdim=True)
        return torch.nn.functional.pad(window, (0, stop - start - window.shape[1]))


class _Live:
    """A SpeechFeed at LIVE_RATE or more, read as it grows."""

    channels = SpeechFeed.channels

    def __init__(self, feed: SpeechFeed) -> None:
        self.rate = max(LIVE_RATE, feed.rate)
        self._feed = feed
        self._converter = av.AudioResampler(format="fltp", layout="mono", rate=self.rate)
        self._samples, self._start = torch.zeros(0), 0
        self._taken = 0  # samples of the feed
        self._ended = False

    def ready(self, shown: int) -> float:
        """Samples that are final, where ``shown`` belong to frames that are done; all of them at the end, after which
        there is silence."""
        final = self._feed.ready
        ended = final == float("inf")
        final = max(final, shown * self._feed.rate // self.rate)
        if (reached := min(final, round(self._feed.spoken_seconds * self._feed.rate))) > self._taken:
            self._keep(self._feed.read(self._taken, reached)[0])
            self._taken = reached
        if ended and not self._ended:
            self._keep(None)
            self._ended = True
        return float("inf") if ended else self._start + len(self._samples)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Samples [1, S], silence behind the end; those before ``start`` are not kept."""
        self._samples, self._start = self._samples[start - self._start :], start
        window = self._samples[: stop - start]
        return torch.nn.functional.pad(window, (0, stop - start - len(window)))[None]

    def _keep(self, samples: torch.Tensor | None) -> None:
        found = converted(self._converter, samples, self._feed.rate, self.rate)
        self._samples = torch.cat([self._samples, *found])


class _Sound:
    """The AAC track: encodes as far ahead as a block needs to be complete."""

    def __init__(self, audio: Mapping | SpeechFeed) -> None:
        self._source = _Live(audio) if isinstance(audio, SpeechFeed) else _Finished(audio)
        self.rate = self._source.rate
        self._layout = AAC_LAYOUTS[self._source.channels]
        self._encoder = av.CodecContext.create("aac", "w")
        self._set_up(self._encoder)
        self.priming = 0
        self._first = self._fed = 0  # samples: where the encoder has begun, how far it has been fed
        self._written = None  # packets that begin before this sample are in the file already
        self._waiting: list[av.Packet] = []

    def _set_up(self, encoder: av.AudioCodecContext) -> None:
        encoder.sample_rate, encoder.layout, encoder.format = self.rate, self._layout, "fltp"
        # 96 kbit/s per channel, or what AAC can hold at low rates (6144 bits per packet and channel).
        encoder.bit_rate = self._source.channels * min(96_000, 6 * self.rate)

    def stream(self, container: av.container.OutputContainer) -> av.AudioStream:
        """A stream of ``container`` for this track's packets."""
        stream = container.add_stream("aac", rate=self.rate, layout=self._layout)
        self._set_up(stream.codec_context)
        return stream

    def go_on_at(self, sample: int) -> None:
        """Leave out the packets that an earlier encoder gave for ``until(sample)``; call it before ``until``."""
        self._written = sample
        self._first = self._fed = max(0, sample // AAC_FRAME - WARM_UP) * AAC_FRAME

    def until(self, sample: int) -> list[av.Packet]:
        """The next packets, so that all samples before ``sample`` can be decoded; of live sound, those for which
        the samples are there: the encoder looks ahead."""
        while not self._waiting or self._waiting[-1].pts + AAC_FRAME < sample:
            if self._fed + AAC_FRAME > self._source.ready(sample):
                break
            self._feed()
        ready = [packet for packet in self._waiting if packet.pts < sample]
        self._waiting = self._waiting[len(ready) :]
        return ready

    def _feed(self) -> None:
        chunk = self._source.read(self._fed, self._fed + AAC_FRAME).clamp(-1, 1).contiguous()
        frame = av.AudioFrame.from_ndarray(chunk.numpy(), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self._fed, Fraction(1, self.rate)
        packets = self._encoder.encode(frame)
        if packets and not self.priming:
            self.priming = self._first - packets[0].pts
        self._fed += AAC_FRAME
        self._waiting += [p for p in packets if self._written is None or p.pts >= self._written]


def _profile(extradata: bytes) -> bytes:
    """Profile, constraints and level, which follow the start code and type of the first parameter set."""
    start = extradata.index(b"\x00\x00\x01") + 4
    return extradata[start : start + 3]


def _boxes(data: bytes, wanted: tuple[str, ...]) -> bytes:
    """The top-level mp4 boxes of the wanted types, in order."""
    kept, offset = [], 0
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        if data[offset + 4 : offset + 8].decode("latin-1") in wanted:
            kept.append(data[offset : offset + size])
        offset += size
    return b"".join(kept)

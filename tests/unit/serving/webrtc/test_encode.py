"""Packets of a live video, decoded again."""

from __future__ import annotations

import math

import av
import pytest
import torch
from avatar.serving.webrtc.encode import KEY_SECONDS, OPUS_CLOCK, OPUS_RATES, Encoder
from avatar.serving.webrtc.pace import TICKS

WIDTH, HEIGHT, FPS, RATE = 64, 48, 25, 24_000


def grey(value: int) -> torch.Tensor:
    return torch.full((HEIGHT, WIDTH, 3), value, dtype=torch.uint8)


def test_every_picture_comes_at_once_and_can_be_decoded_at_once():
    encoder, decoder = Encoder(WIDTH, HEIGHT, FPS, RATE), av.CodecContext.create("h264", "r")
    decoder.flags |= av.codec.context.Flags.low_delay
    values = [20 + 8 * number for number in range(12)]
    decoded = []
    for number, value in enumerate(values):
        packet = encoder.picture(2 * number, grey(value))
        assert packet.pts == 2 * number and packet.time_base == pytest.approx(1 / TICKS)
        decoded += decoder.decode(av.Packet(bytes(packet)))
    decoded += decoder.decode(None)
    found = [float(frame.to_ndarray(format="rgb24").mean()) for frame in decoded]
    assert found == pytest.approx(values, abs=4)


def test_who_joins_begins_with_a_picture_of_its_own():
    encoder = Encoder(WIDTH, HEIGHT, FPS, RATE)
    packets = [encoder.picture(step, grey(100), key=step == 30) for step in range(0, 220, 2)]
    keys = [packet.pts for packet in packets if packet.is_keyframe]
    assert keys == [0, 30, 30 + round(KEY_SECONDS * TICKS)]
    late = av.CodecContext.create("h264", "r")
    decoded = [frame for packet in packets[15:20] for frame in late.decode(av.Packet(bytes(packet)))]
    assert len([*decoded, *late.decode(None)]) == 5


@pytest.mark.parametrize("rate", OPUS_RATES)
def test_every_step_of_sound_is_one_packet_that_sounds_the_same(rate):
    encoder, decoder = Encoder(WIDTH, HEIGHT, FPS, rate), av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout, decoder.format = OPUS_CLOCK, "mono", "s16"
    size, decoded = rate // TICKS, []
    sound = 0.4 * torch.sin(torch.arange(TICKS * size) * (440 * 2 * math.pi / rate))
    for step, samples in enumerate(sound.split(size)):
        packet = encoder.sound(step, samples)
        assert packet.pts == step * OPUS_CLOCK // TICKS
        decoded += decoder.decode(av.Packet(bytes(packet)))
    assert {frame.format.name for frame in decoded} == {"s16"}
    heard = torch.cat([torch.from_numpy(frame.to_ndarray()).flatten() for frame in decoded]) / 32768
    heard = heard[OPUS_CLOCK // 10 :]  # the encoder begins with silence
    crossings = (heard[1:].sign() != heard[:-1].sign()).sum().item() / 2
    assert crossings == pytest.approx(0.9 * 440, abs=8)
    assert heard.square().mean().sqrt().item() == pytest.approx(0.4 / math.sqrt(2), rel=0.15)


def test_a_picture_that_moves_a_lot_stays_small():
    encoder = Encoder(256, 256, FPS, RATE)
    drawn = torch.Generator().manual_seed(1)
    noise = [torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8, generator=drawn) for _ in range(2 * FPS)]
    sizes = [encoder.picture(2 * number, frame).size for number, frame in enumerate(noise)]
    assert sum(sizes) * 8 / 2 < 1.5 * 0.5 * 256 * 256 * FPS

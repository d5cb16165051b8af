"""How drawn people move, how their clips are drawn, and how mouth and lids are read back from the pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip(
    "skia", reason="needs skia-python and the libraries libEGL and libGL", exc_type=ImportError
)

import torch
import torch.nn.functional as F

from training.corpus import RATE, Recording
from training.figures.clips import ClipSource, Drawers
from training.figures.figure import Figure
from training.figures.measure import Reader
from training.figures.motion import MOODS, lid, phrase_ends, stressed, talking, tongue_of
from training.figures.person import boxes, person
from training.figures.pose import LIMITS, NAMES, poses

SOUNDS = {
    "a": (1.0, 0.15, 0.0),
    "m": (0.0, 0.05, 0.0),
    "i": (0.32, 1.0, 0.4),
    "s": (0.18, 0.55, 1.0),
    "o": (0.7, -0.7, 0.0),
    "u": (0.34, -1.0, 0.0),
    "t": (0.27, 0.2, 0.45),
    "e": (0.62, 0.6, 0.15),
    " ": (0.0, 0.0, 0.0),
}


def spoken(text: str) -> np.ndarray:
    """Mouth shapes [3 a sound, 3]."""
    track = np.repeat([SOUNDS[sound] for sound in text], 3, axis=0)
    padded = np.pad(track, ((1, 1), (0, 0)), mode="edge")
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]


def speech(seconds: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    words = ["mama", "tiso", "ute", "seta", "omi", "asu", "     "]
    text = "".join(rng.choice(words) for _ in range(4 * seconds))
    return spoken(text)[: 25 * seconds]


@pytest.mark.parametrize("mood", MOODS)
def test_motion_can_be_drawn_and_has_the_mouth_of_the_speech(mood):
    mouth = speech(40)
    motion = talking(mouth, np.random.default_rng(1), mood)
    assert set(motion) == set(NAMES)
    assert len(poses(motion)) == 1000
    heard = mouth[:, 0] > 0.1
    assert np.corrcoef(motion["open"][heard], mouth[heard, 0])[0, 1] > 0.97
    assert all(np.abs(motion[name]).max() <= limit for name, limit in LIMITS.items())


def test_moods_differ_in_the_face():
    made = {mood: talking(speech(40), np.random.default_rng(1), mood) for mood in MOODS}
    serious, smiling, laughing = (np.mean(made[mood]["smile"]) for mood in ("serious", "smiling", "laughing"))
    assert serious < 0 < smiling < laughing
    pause = speech(40)[:, 0] == 0
    assert made["laughing"]["open"][pause].mean() > 0.05 > made["smiling"]["open"][pause].max()


def test_nothing_moves_before_a_clip_begins():
    motion = talking(speech(4), np.random.default_rng(2), "laughing", lead=9)
    assert all(np.abs(values[:9]).max() == 0 for name, values in motion.items())
    assert motion["open"][9:].max() > 0.5


def test_a_blink_shuts_fast_and_opens_slowly():
    age = np.arange(0, 0.5, 0.001)
    shut = lid(age)
    assert shut.max() == 1
    assert lid(np.array([-0.1, 0.36])).tolist() == [0, 0]
    closing, opening = (shut[:100] < 0.9).sum(), (shut[145:350] < 0.9).sum()
    assert opening > 1.8 * closing
    assert (shut == 1).sum() >= 40  # one frame of 25 a second always sees the eye shut


def test_blinks_come_as_often_as_people_blink_and_mark_the_ends_of_phrases():
    mouth = speech(240, seed=3)
    blink = talking(mouth, np.random.default_rng(3), "serious")["blink"]
    starts = np.flatnonzero((blink[1:] > 0.5) & (blink[:-1] <= 0.5)) + 1
    assert 10 < len(starts) / 4 < 45
    assert (np.diff(starts) < 14).any()  # a double blink
    ends = phrase_ends(mouth[:, 0])
    after = [((starts >= end) & (starts <= end + 6)).any() for end in ends]
    assert np.mean(after) > 0.6


def test_gaze_jumps_and_brows_follow_the_stress():
    mouth = speech(120, seed=4)
    motion = talking(mouth, np.random.default_rng(4), "smiling")
    steps = np.abs(np.diff(motion["gaze_x"] + 1.6 * motion["yaw"]))
    assert (steps < 0.02).mean() > 0.8
    assert steps.max() > 0.15
    peaks = stressed(np.convolve(np.pad(mouth[:, 0], 3, mode="edge"), np.bartlett(9)[1:-1] / 4, "valid"))
    at, between = motion["brow"][peaks].mean(), motion["brow"].mean()
    assert at > between + 0.1


def test_the_tongue_lifts_for_t_and_lies_for_vowels():
    t, a, u, m = tongue_of(np.array([SOUNDS[s] for s in "taum"]))
    assert t > 0.9
    assert max(a, u, m) < 0.05


@pytest.mark.parametrize(("seed", "style"), [(3, "soft"), (11, "flat"), (8, "sketch")])
def test_mouth_and_lids_are_read_from_the_pixels(seed, style):
    who = person(seed, style)
    motion = talking(speech(3, seed), np.random.default_rng(seed), "smiling")
    motion["blink"][40:48] = np.maximum(motion["blink"][40:48], lid((np.arange(8) + 0.5) / 25))
    video = torch.from_numpy(Figure(who, 128).frames(motion)).permute(0, 3, 1, 2).float() / 127.5 - 1
    reader = Reader(who, 128, count=400)
    opening = reader.mouth(video)[:, 0].numpy()
    assert np.corrcoef(opening, motion["open"])[0, 1] > 0.9
    assert np.corrcoef(reader.blink(video).numpy(), motion["blink"])[0, 1] > 0.85
    kept = reader.lid_sharpness(video)
    assert 0.85 < kept["blink"] < 1.15
    assert 0.9 < kept["open"] < 1.1
    # A model that smears blinks would be found out.
    smeared = video.clone()
    shut = motion["blink"] > 0.4
    smeared[shut] = F.avg_pool2d(video[shut], 5, 1, 2)
    assert reader.lid_sharpness(smeared)["blink"] < 0.75 * kept["blink"]


def test_a_reader_refuses_what_it_cannot_read():
    reader = Reader(person(3, "flat"), 64, count=60)
    with pytest.raises(ValueError, match="Give pictures of 64 pixels"):
        reader.mouth(torch.zeros(1, 3, 96, 96))
    still = torch.from_numpy(Figure(person(3, "flat"), 64).frames({"open": np.zeros(3)}))
    with pytest.raises(ValueError, match="blink and open again"):
        reader.lid_sharpness(still.permute(0, 3, 1, 2).float() / 127.5 - 1)


def recording(seed: int) -> Recording:
    track = np.repeat(speech(4, seed), 4, axis=0).astype(np.float32)
    return Recording("x", np.zeros(len(track) * RATE // 100, np.float32), track)


def test_clips_come_from_their_seed_and_fit_together():
    first, second = (ClipSource([recording(0), recording(1)], seed=5).draw(2, 6, lead=2) for _ in range(2))
    assert first.people == second.people
    video = first.pixels(64)
    assert video.shape == (2, 3, 8, 64, 64)
    assert torch.equal(video, second.pixels(64))
    assert float(video.min()) >= -1 and float(video.max()) <= 1
    rest = first.at_rest(64, 3)
    assert rest.shape == (2, 3, 3, 64, 64)
    for clip, still, resting in zip(video, rest, first.from_rest, strict=True):
        assert not resting or torch.equal(clip[:, 0], still[:, 0])
    weight = first.face_weight(64, 4.0, cell=8)
    assert weight.shape == (2, 1, 1, 8, 8)
    assert weight.unique().tolist() == [1, 4]
    assert first.opening().shape == (2, 8)
    wider = first.wider(np.array([1.0, 2.2])).opening()
    torch.testing.assert_close(wider, (first.opening() * torch.tensor([[1.0], [2.2]])).clamp(max=1))
    for (x, y), who in zip(first.mouths(64).tolist(), first.people, strict=True):
        left, top, right, bottom = boxes(who)["mouth"]
        assert left * 64 < x < right * 64 and top * 64 < y < bottom * 64


def test_workers_draw_what_the_process_itself_draws():
    drawers = Drawers(1)
    try:
        clip = ClipSource([recording(0)], seed=6).draw(1, 3)
        assert torch.equal(replace(clip, drawers=drawers).pixels(48), clip.pixels(48))
    finally:
        drawers.close()


def test_parts_of_the_face_lie_in_it():
    for who in map(person, range(30)):
        regions = boxes(who)
        face = regions["face"]
        for part in ("mouth", "eyes"):
            left, top, right, bottom = regions[part]
            assert face[0] <= left < right <= face[2]
            assert face[1] < top < bottom < face[3] + 0.02

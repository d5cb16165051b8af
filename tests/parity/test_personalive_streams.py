"""Whole runs against the recorded reference: the live wrapper and the two offline pipelines."""

from __future__ import annotations

import functools
import re

import pytest
import torch
from avatar.engines.parts.face.keypoints import face_boxes
from avatar.engines.personalive.config import StreamConfig
from avatar.engines.personalive.motion import Motion, mirrored
from avatar.engines.personalive.pipeline import Stream
from avatar.engines.personalive.preprocess import crop_resize

from tests.parity import personalive_fixtures as fx
from tests.parity.personalive_fixtures import (
    Recorder,
    as_pil,
    blow_up,
    fixture,
    frames_first,
    near,
    thinned,
    unit,
)
from tests.parity.personalive_offline import OfflineBatch, OfflineStream, offline_motion, offline_portrait

LATENT_TOLERANCE = 1e-4
# The original rounds reference features to float16: a difference of 1e-6 before it flips roundings of 1e-3
# after it. The predicted noise of the original's own second run (another attention kernel) deviates by
# 2.7e-4, ours on a CPU without AVX-512 by 3.7e-4 to 4.5e-4, by which of its kernels compute; without the rounding
# our latents deviate by 2.5e-5 there.
ROUNDED_NOISE_TOLERANCE = 6e-4
VIDEO_TOLERANCE = 5e-4


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def settings() -> StreamConfig:
    t, _ = fixture("01")
    return StreamConfig(steps=len(t["timesteps_pipeline"]))


def canvas() -> int:
    return fx.manifest()["canvas"]


def live(rounding):
    """An engine, the portrait, and a stream that draws the recorded noise."""
    t, values = fixture("06")
    engine = fx.engine(rounding)
    portrait = engine.portrait(blow_up(t["ref_low"], canvas())[0], canvas(), canvas())
    noises = iter([t["fuse/noise"], *(t[f"call{i:02d}/noise"] for i in range(len(values["calls"])))])

    def noise(shape):
        found = next(noises)
        assert tuple(found.shape) == shape
        return found

    return t, values["calls"], engine, portrait, Stream(engine, portrait, settings(), noise)


def driving(t, call):
    return blow_up(t[f"call{call:02d}/frames_low"], canvas())


@functools.lru_cache
def observed(call):
    """Motion of one chunk; it does not depend on the portrait or on rounding, so the tests share it."""
    t, _ = fixture("06")
    return fx.engine().observe(driving(t, call))


def test_live_portrait():
    t, _, _, portrait, stream = live(torch.float16)
    near(portrait.image_token, t["fuse/image_embeds"])
    near(portrait.latent, t["fuse/ref_image_latents"])
    near(stream.window.latents, frames_first(t["fuse/piles"]))


def test_live_observation():
    t, calls, _, portrait, stream = live(torch.float16)
    size = canvas()
    for i in range(len(calls)):
        name = f"call{i:02d}"
        frames, motion = driving(t, i), observed(i)
        _, poses = stream._driven(motion)
        near(poses.project(), t[f"{name}/kps_drawn"], name=name)
        # tiny random weights amplify resampling noise in the encoder; the recorded rerun deviates by 3e-5
        expected = t[f"{name}/motion_raw"][0]
        if i == 0:
            near(portrait.tokens, expected[:1])
            expected = expected[1:]
        near(motion.tokens, expected, name=name)
        boxes = face_boxes(motion.pose.project(), size, size)
        assert (boxes - t[f"{name}/boxes"]).abs().max() <= 1, name
        if f"{name}/faces_s8" in t:
            crops = crop_resize(unit(frames) * 2 - 1, t[f"{name}/boxes"], 224)
            recorded = frames_first(t[f"{name}/faces_s8"])[-len(frames) :]
            near(thinned(crops, recorded), recorded, name=name)
        if f"{name}/kps_dri" in t:
            near(motion.pose.project(), t[f"{name}/kps_dri"], name=name)
    near(face_boxes(portrait.pose.project(), size, size).float(), t["call00/ref_box"].float(), 0, atol=1)


def test_live_stream():
    t, calls, engine, _, stream = live(torch.float16)
    engine.denoise = Recorder(engine.denoise)
    engine.guide_pose = Recorder(engine.guide_pose)
    engine.scheduler.step = Recorder(engine.scheduler.step)
    for i, expected in enumerate(calls):
        name = f"call{i:02d}"
        latents = stream.push_latents(observed(i))
        (unet_in, timesteps, motion, _, contexts), noise = engine.denoise.calls[-1]
        prev, clean = engine.scheduler.step.calls[-1][1]
        recorded = {
            "unet_in": unet_in,
            "unet_motion": motion[None],
            "noise_pred": noise,
            "x0": clean,
            "prev": prev,
            "piles": stream.window.latents,
            "latents_out": latents,
        }
        for key, value in recorded.items():
            if f"{name}/{key}" in t:
                wanted = t[f"{name}/{key}"]
                wanted = frames_first(wanted) if wanted.dim() == 5 else wanted
                tolerance = ROUNDED_NOISE_TOLERANCE if key == "noise_pred" else LATENT_TOLERANCE
                near(value, wanted, tolerance, name=f"{name}/{key}")
        if f"{name}/timesteps" in t:
            assert timesteps.tolist() == t[f"{name}/timesteps"].tolist()
        if f"{name}/pose_fea" in t:
            features = engine.guide_pose.calls[-1][1]
            picked = fx.numbers(re.search(r"\[(.*?)\]", fx.meaning("06", f"{name}/pose_fea"))[1])
            near(features[picked], frames_first(t[f"{name}/pose_fea"]), name=name)
        video = engine.codec.decode(latents).permute(0, 2, 3, 1)
        recorded = t[f"{name}/video_s4"]
        near(thinned(video, recorded), recorded, 0, atol=VIDEO_TOLERANCE, name=name)
        assert stream.keyframes == expected["num_khf"], name
        assert stream.count == expected["count_after"]
        # Ours stops testing when no further keyframe can be stored; until then the memories agree.
        if expected["num_khf"] < stream.config.max_keyframes or expected["keyframe_added"]:
            assert len(stream.memory.bank) == expected["motion_bank"], name
        spatial = contexts[0].keys.shape[1] // (unet_in.shape[-1] * unet_in.shape[-2])
        assert spatial == 1 + (calls[i - 1]["num_khf"] if i else 0)


def test_live_stream_with_float32_features():
    t, calls, _, _, stream = live(None)
    checked = 0
    for i in range(len(calls)):
        latents = stream.push_latents(observed(i))
        if f"call{i:02d}/latents_out_bank32" in t:
            near(latents, t[f"call{i:02d}/latents_out_bank32"], LATENT_TOLERANCE)
            checked += 1
    assert checked == sum(k.endswith("_bank32") for k in t)


def offline(number, kind):
    t, values = fixture(number)
    engine = fx.engine()
    size = canvas()
    about = next(f["about"] for f in fx.manifest()["fixtures"] if f["file"].startswith(number))
    face = int(re.search(r"ref_face_low blow up \d+->(\d+)", about)[1])
    portrait = offline_portrait(
        engine,
        as_pil(blow_up(t["ref_low"], size)[0]),
        as_pil(blow_up(t["ref_face_low"], face)[0]),
        size,
        size,
    )
    frames = [as_pil(x) for x in blow_up(t["frames_low"], size)]
    faces = [as_pil(x) for x in blow_up(t["faces_low"], face)]
    batches = [slice(i, i + 8) for i in range(0, len(frames), 8)]
    motion = Motion.concat(offline_motion(engine, frames[b], faces[b]) for b in batches)
    noises = [t[k] for k in sorted(t) if k.startswith("noise") and k[5:].isdigit()]
    if kind is OfflineBatch:
        chunk = settings().chunk
        noises = [noises[0], *noises[1].split(chunk, 2)]
        extra = Motion.concat([motion[-1:]] * settings().ramp)
        chunks = [
            Motion.concat([motion, extra])[i : i + chunk] for i in range(0, len(motion) + len(extra), chunk)
        ]
    else:
        chunks = [part for part, _ in mirrored([motion], settings().chunk, settings().ramp)]
    noise = iter(noises)
    stream = kind(engine, portrait, settings(), lambda shape: next(noise))
    engine.denoise = Recorder(engine.denoise)
    latents = []
    assert len(chunks) == len(values["iterations"])
    for i, (part, expected) in enumerate(zip(chunks, values["iterations"], strict=True)):
        latents.append(stream.push_latents(part))
        (unet_in, _, window, _, contexts), predicted = engine.denoise.calls[-1]
        recorded = {
            "x0_first4": latents[-1],
            "noise_pred": predicted,
            "motion": window[None],
            "unet_in": unet_in,
        }
        for key, value in recorded.items():
            if f"it{i:02d}/{key}" in t:
                wanted = t[f"it{i:02d}/{key}"]
                wanted = frames_first(wanted) if wanted.dim() == 5 else wanted
                tolerance = ROUNDED_NOISE_TOLERANCE if key == "noise_pred" else LATENT_TOLERANCE
                near(value, wanted, tolerance, name=f"it{i:02d}/{key}")
        used = contexts[0].keys.shape[1] // (unet_in.shape[-1] * unet_in.shape[-2]) - 1
        assert used == expected["kv_entries_used_by_unet"]
        if expected["check"]:
            assert len(stream.memory.bank) == expected["check"]["bank_after"]
    assert next(noise, None) is None
    ramp = settings().piles - 1
    video = torch.cat([engine.codec.decode(x) for x in latents[ramp:]])
    recorded = frames_first(t["video_s4"])
    near(thinned(video, recorded), recorded, 0, atol=VIDEO_TOLERANCE)


def test_offline_stream():
    offline("07", OfflineStream)


def test_offline_stream_whose_keyframes_grow_without_bound():
    offline("08", OfflineStream)


def test_offline_batch():
    offline("09", OfflineBatch)

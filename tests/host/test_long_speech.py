"""Speech that is longer than the audio encoder's window, in the real host."""

from __future__ import annotations

import numpy as np
import pytest

from tools.host import HostError

from .media import check_talks, read_video, tone, write_wav
from .workflows import change, only, small


def test_long_speech_from_a_file_and_from_load_audio_give_the_same_video(ready):
    write_wav(ready.input_dir / "long.wav", tone(150, 22_050, 2), 22_050)
    videos = []
    for loader in ("LoadAudio", "LiveAvatarLoadSpeechFile"):
        workflow = small(seconds=1.2, seed=5)
        workflow[only(workflow, "LoadAudio")] = {"class_type": loader, "inputs": {"audio": "long.wav"}}
        change(workflow, "LiveAvatarStreamToVideo", filename_prefix=f"video/long_{loader}")
        videos.append(read_video(ready.video(workflow)))
    for video in videos:
        check_talks(video, (64, 64), 30, 22_050, 2)
    np.testing.assert_array_equal(videos[0].frames, videos[1].frames)


def test_a_file_that_is_gone_is_refused_before_the_run(ready):
    workflow = small()
    workflow[only(workflow, "LoadAudio")] = {
        "class_type": "LiveAvatarLoadSpeechFile",
        "inputs": {"audio": "nowhere.wav"},
    }
    with pytest.raises(HostError, match="no file nowhere"):
        ready.submit(workflow)

"""Hosts that are started in other ways: without a cache of results, with a short one, for several users."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.gone_on import check_gone_on

from .client import Host
from .media import check_talks, make_inputs, read_video, tone, write_wav
from .models import install_tiny_models
from .test_resume import SECONDS, files, stop, talk
from .workflows import small

OPTIONS = {
    "cache-none": ["--cache-none"],
    "cache-lru": ["--cache-lru", "1"],
    "multi-user": ["--multi-user"],
}


@pytest.fixture(scope="module", params=OPTIONS.values(), ids=OPTIONS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with one of these options."""
    running = Host(tmp_path_factory.mktemp("options"), arguments=request.param)
    install_tiny_models(running.models_dir)
    with running:
        make_inputs(running.input_dir)
        write_wav(running.input_dir / "long.wav", tone(SECONDS, 44_100, 2), 44_100)
        yield running


def test_runs_follow_each_other(started):
    first = read_video(started.video(small(seed=1)))
    check_talks(first, (64, 64), 8, 24_000, 1)
    other = read_video(started.video(small(seed=2)))
    assert np.abs(other.frames.astype(int) - first.frames).mean() > 5
    again = read_video(started.video(small(seed=1)))
    np.testing.assert_array_equal(again.frames, first.frames)


def test_a_stopped_run_goes_on_after_the_host_was_restarted(started):
    whole = read_video(started.video(talk("whole", resume=False)))
    workflow = talk("stopped")
    stop(started, workflow, 45)
    started.stop()
    started.start()
    check_gone_on(read_video(started.video(workflow)).frames, whole.frames, 45)
    assert files(started, "stopped") == ["talk_00001_.mp4"]

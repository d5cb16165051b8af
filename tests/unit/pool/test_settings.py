"""What a pool is started with is looked at before anything is loaded."""

from __future__ import annotations

import pytest

from pool.__main__ import parser, settings_of
from pool.settings import Settings
from tools import talker


def settings(*arguments: str) -> Settings:
    return settings_of(parser().parse_args(["--device", "cpu", *arguments]))


def test_the_least_and_the_most_avatars_fit_together():
    assert (settings().replicas, settings().most_replicas) == (1, 1)
    assert settings("--replicas", "3").most_replicas == 3
    assert settings("--replicas", "0").most_replicas == 1
    assert settings("--gpus", "2").gpus == 0, "on the CPU nobody sets GPUs aside"


def test_videos_have_the_size_of_their_model(tmp_path):
    assert settings().size == (talker.SIDE, talker.SIDE)
    assert settings("--checkpoint", str(tmp_path)).size == (704, 384)
    assert settings("--size", "128x64").size == (128, 64)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--checkpoint", "nowhere"], "Name another path: there is no nowhere"),
        (["--size", "704"], "Set --size to WIDTHxHEIGHT"),
        (["--size", "100x100"], "64"),
        (["--steps", "0"], "Set --steps to a number from 1 to 50"),
        (["--steps", "51"], "Set --steps to a number from 1 to 50"),
        (["--replicas", "2", "--most-replicas", "1"], "Set --replicas"),
        (["--waiting", "0"], "Set --waiting"),
        (["--host", "0.0.0.0"], "Set LIVEAVATAR_HTTP_NETWORK=1 and a LIVEAVATAR_HTTP_KEY"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(arguments, sentence, monkeypatch):
    monkeypatch.delenv("LIVEAVATAR_HTTP_NETWORK", raising=False)
    with pytest.raises(ValueError, match=sentence):
        settings(*arguments)

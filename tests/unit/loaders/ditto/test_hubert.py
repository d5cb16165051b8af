"""Ditto's speech network as a graph of onnxruntime, with a small graph of the same inputs and outputs."""

from __future__ import annotations

import sys

import pytest
import torch
from avatar.engines.ditto.speech_windows import features_of
from avatar.loaders.ditto.hubert import SpeechGraph
from avatar.loaders.onnx_graph import INSTALL

WIDTH = 1024


pytest.importorskip("onnxruntime")
write = pytest.importorskip("tools.tiny_ditto_graphs").write_speech


def test_features_are_those_of_the_graph(tmp_path):
    weight = torch.from_numpy(write(tmp_path / "hubert.onnx"))
    speech = SpeechGraph(tmp_path / "hubert.onnx")
    sound = torch.randn(1, 6480)
    expected = torch.nn.functional.conv1d(sound[None], weight, stride=320)[0].T[None]
    assert torch.allclose(speech(sound), expected, atol=1e-4)
    assert not speech.on_gpu
    assert features_of(speech, torch.randn(12_345)).shape == (20, WIDTH)


def test_a_gpu_that_onnxruntime_cannot_use_is_told(tmp_path, caplog):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime uses GPUs")
    write(tmp_path / "hubert.onnx")
    assert not SpeechGraph(tmp_path / "hubert.onnx", "cuda").on_gpu
    assert "onnxruntime-gpu" in caplog.text


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    write(tmp_path / "whole.onnx")
    data = (tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"Download .*half\.onnx again"):
        SpeechGraph(tmp_path / "half.onnx")


@pytest.mark.parametrize("other", [{"width": 768}, {"name": "audio"}])
def test_another_network_is_refused(tmp_path, other):
    write(tmp_path / "other.onnx", **other)
    with pytest.raises(ValueError, match="Choose Ditto's speech network"):
        SpeechGraph(tmp_path / "other.onnx")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hubert\.onnx"):
        SpeechGraph(tmp_path / "hubert.onnx")


def test_without_onnxruntime_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "hubert.onnx").write_bytes(b"\x08\x08 something")
    with pytest.raises(RuntimeError) as caught:
        SpeechGraph(tmp_path / "hubert.onnx")
    assert str(caught.value) == INSTALL

"""Ditto's speech network as a graph that PyTorch or onnxruntime computes, with small graphs of the same inputs and
outputs."""

from __future__ import annotations

import builtins
import sys

import pytest
import torch
from avatar.engines.ditto.speech_windows import features_of
from avatar.loaders.ditto.hubert import SpeechGraph
from avatar.loaders.onnx.choice import BACKENDS
from avatar.loaders.onnx.runtime import INSTALL

from tests.unit.loaders.onnx.small_hubert import write_small_hubert

WIDTH = 1024


pytest.importorskip("onnxruntime")
graphs = pytest.importorskip("tools.tiny_ditto_graphs")
write = graphs.write_speech


@pytest.mark.parametrize("by", BACKENDS)
def test_features_are_those_of_the_graph(tmp_path, by):
    weight = torch.from_numpy(write(tmp_path / "hubert.onnx"))
    speech = SpeechGraph(tmp_path / "hubert.onnx", by=by)
    sound = torch.randn(1, 6480)
    expected = torch.nn.functional.conv1d(sound[None], weight, stride=320)[0].T[None]
    assert torch.allclose(speech(sound), expected, atol=1e-4)
    assert not speech.on_gpu
    assert (speech.network is None) == (by == "onnxruntime")
    assert features_of(speech, torch.randn(12_345)).shape == (20, WIDTH)


def test_a_hubert_with_a_built_in_context_is_heard_window_by_window_as_by_onnxruntime(tmp_path):
    write_small_hubert(tmp_path / "hubert.onnx", WIDTH)
    ours, theirs = (SpeechGraph(tmp_path / "hubert.onnx", by=by) for by in ("PyTorch", "onnxruntime"))
    assert sum(weight.numel() for weight in ours.network.parameters()) > 8_000_000
    sound = torch.randn(16_000, generator=torch.Generator().manual_seed(2))
    found, expected = features_of(ours, sound), features_of(theirs, sound)
    assert found.shape == (25, WIDTH)
    assert torch.allclose(found, expected, atol=5e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_pytorch_needs_neither_onnxruntime_nor_onnx(tmp_path, monkeypatch):
    write(tmp_path / "hubert.onnx")
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        assert name.partition(".")[0] not in ("onnx", "onnxruntime"), name
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert SpeechGraph(tmp_path / "hubert.onnx")(torch.zeros(1, 6480)).shape == (1, 20, WIDTH)


def write_unknown(path):
    """The small graph with an operator that PyTorch is not taught."""
    onnx = graphs.onnx
    write(path)
    model = onnx.load(str(path))
    model.graph.output[0].name = "far"
    model.graph.node.append(onnx.helper.make_node("ThresholdedRelu", ["encoding_out"], ["far"], alpha=0.0))
    onnx.save(model, str(path))


def test_what_pytorch_cannot_compute_onnxruntime_does_and_the_log_says_so(tmp_path, caplog):
    write_unknown(tmp_path / "hubert.onnx")
    speech = SpeechGraph(tmp_path / "hubert.onnx")
    assert speech.network is None
    assert "onnxruntime computes Ditto's speech network, because" in caplog.text
    assert "ThresholdedRelu" in caplog.text
    with pytest.raises(ValueError, match=r"Let 'auto' or 'onnxruntime' compute .*Thresh"):
        SpeechGraph(tmp_path / "hubert.onnx", by="PyTorch")


def test_a_gpu_that_onnxruntime_cannot_use_is_told(tmp_path, caplog):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime uses GPUs")
    write(tmp_path / "hubert.onnx")
    assert not SpeechGraph(tmp_path / "hubert.onnx", "cuda", "onnxruntime").on_gpu
    assert "onnxruntime-gpu" in caplog.text


@pytest.mark.parametrize("by", BACKENDS)
def test_a_file_that_is_cut_off_is_refused(tmp_path, by):
    write(tmp_path / "whole.onnx")
    data = (tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"Download .*half\.onnx again"):
        SpeechGraph(tmp_path / "half.onnx", by=by)


@pytest.mark.parametrize("by", BACKENDS)
@pytest.mark.parametrize("other", [{"width": 768}, {"name": "audio"}])
def test_another_network_is_refused(tmp_path, other, by):
    write(tmp_path / "other.onnx", **other)
    with pytest.raises(ValueError, match="Choose Ditto's speech network"):
        SpeechGraph(tmp_path / "other.onnx", by=by)


@pytest.mark.parametrize("by", BACKENDS)
def test_a_missing_file_is_named(tmp_path, by):
    with pytest.raises(FileNotFoundError, match=r"hubert\.onnx"):
        SpeechGraph(tmp_path / "hubert.onnx", by=by)


def test_without_onnxruntime_the_remedy_is_said_where_it_is_needed(tmp_path, monkeypatch):
    write_unknown(tmp_path / "hubert.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for by in ("auto", "onnxruntime"):
        with pytest.raises(RuntimeError) as caught:
            SpeechGraph(tmp_path / "hubert.onnx", by=by)
        assert str(caught.value) == INSTALL

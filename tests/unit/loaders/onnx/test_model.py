"""ONNX files read without the package ``onnx``; what is damaged, enormous or out of reach is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avatar.loaders.onnx import model as reader
from avatar.loaders.onnx.model import read_model
from avatar.loaders.onnx.wire import DamagedError, UnsupportedGraph, Wire, floats, wholes

onnx = pytest.importorskip("onnx")
graphs = pytest.importorskip("tools.tiny_ditto_graphs")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

NODES = 1500
"""Bytes of the finder's file in which its nodes are; constants follow."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "finder.onnx"
    graphs.write_finder(path)
    return path


def test_nodes_and_constants_are_those_of_the_package_onnx(whole):
    found, expected = read_model(whole), onnx.load(str(whole))
    assert [node.operator for node in found.nodes] == [node.op_type for node in expected.graph.node]
    assert [node.inputs for node in found.nodes] == [tuple(node.input) for node in expected.graph.node]
    assert found.opset == graphs.OPSET
    assert found.inputs == ["input"]
    assert found.outputs == ["regressors", "classificators"]
    attributes = {a.name: list(a.ints) for node in expected.graph.node for a in node.attribute if a.ints}
    assert {key: node.attributes[key] for key in attributes for node in found.nodes if key in node.attributes}
    for constant in expected.graph.initializer:
        array = numpy_helper.to_array(constant)
        assert np.array_equal(found.constants[constant.name].numpy(), array)
        assert found.constants[constant.name].shape == array.shape


def saved(path, constant, outputs=("y",)):
    """A file whose only node adds a constant to the input."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        "small",
        [value("x", TensorProto.FLOAT, None)],
        [value(name, TensorProto.FLOAT, None) for name in outputs],
        [constant],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    return path


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TensorProto.FLOAT, [1.5, -2.0, 3e-9]),
        (TensorProto.DOUBLE, [1.5, -2.0, 3e-9]),
        (TensorProto.INT64, [-(2**63), 0, 2**63 - 1]),
        (TensorProto.INT32, [-5, 0, 2**31 - 1]),
        (TensorProto.BOOL, [True, False, True]),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_are_read_as_bytes_and_as_lists(tmp_path, kind, values, raw):
    array = np.array(values, helper.tensor_dtype_to_np_dtype(kind))
    constant = helper.make_tensor("c", kind, [3], array.tobytes() if raw else values, raw=raw)
    found = read_model(saved(tmp_path / "c.onnx", constant)).constants["c"]
    assert torch.equal(found, torch.from_numpy(array))


def test_a_file_that_is_cut_off_anywhere_is_refused(whole, tmp_path):
    data = whole.read_bytes()
    half = tmp_path / "half.onnx"
    for size in [*range(1, 60), *range(60, len(data) - 1, 97), len(data) - 1]:
        half.write_bytes(data[:size])
        with pytest.raises(ValueError) as caught:
            read_model(half)
        assert "half.onnx" in str(caught.value) or isinstance(caught.value, UnsupportedGraph)


def test_a_file_with_wrong_bytes_is_read_or_refused_and_nothing_else(whole, tmp_path):
    from avatar.loaders.onnx.torch_graph import TorchGraph

    data, draw = whole.read_bytes(), np.random.default_rng(0)
    wrong, refused = tmp_path / "wrong.onnx", 0
    for _ in range(400):
        bytes_ = bytearray(data)
        for place in draw.integers(0, NODES, 2):
            bytes_[place] = draw.integers(0, 256)
        wrong.write_bytes(bytes_)
        try:
            TorchGraph(wrong, "the finder", "input")(torch.zeros(1, 128, 128, 3))
        except ValueError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("shape", [[2**40, 2**40], [-1], [4], [1] * 9, [0, 2**62], [2**31, 0, 2**31, 2**31]])
def test_a_constant_that_claims_another_size_takes_no_memory(tmp_path, shape):
    constant = helper.make_tensor("c", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    constant.ClearField("dims")
    constant.dims.extend(shape)
    with pytest.raises(ValueError, match=r"Download .*c\.onnx again: .* constant"):
        read_model(saved(tmp_path / "c.onnx", constant))


def test_constants_in_other_files_are_not_looked_for(tmp_path):
    constant = helper.make_tensor("c", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="../../secret")
    with pytest.raises(UnsupportedGraph, match="other files"):
        read_model(saved(tmp_path / "c.onnx", constant))


def test_a_value_that_nothing_gives_is_named(tmp_path):
    constant = helper.make_tensor("other", TensorProto.FLOAT, [1], [1.0])
    with pytest.raises(ValueError, match=r"Add reads c, which nothing before it gives"):
        read_model(saved(tmp_path / "c.onnx", constant))
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    with pytest.raises(ValueError, match=r"nothing gives its output z"):
        read_model(saved(tmp_path / "c.onnx", constant, outputs=("y", "z")))


def test_a_file_larger_than_the_free_memory_is_refused_before_it_is_read(whole, monkeypatch):
    monkeypatch.setattr(reader, "check_room", _no_room)
    monkeypatch.setattr(reader.np, "memmap", None)
    with pytest.raises(MemoryError, match="Close other programs"):
        read_model(whole)


def _no_room(needed, what, advice):
    raise MemoryError(f"{advice}: {what} need {needed} bytes.")


def test_a_file_of_millions_of_fields_ends(monkeypatch):
    monkeypatch.setattr("avatar.loaders.onnx.wire.MOST_FIELDS", 10)
    with pytest.raises(DamagedError, match="more than 10 fields"):
        list(Wire().fields(memoryview(b"\x08\x00" * 11)))


@pytest.mark.parametrize("name", ["page.onnx", "empty.onnx", "text.onnx", "zeros.onnx"])
def test_what_is_no_graph_is_refused(tmp_path, name):
    contents = {
        "page.onnx": b"<!doctype html><html>",
        "empty.onnx": b"",
        "text.onnx": b"some words that are not a graph",
        "zeros.onnx": bytes(1000),
    }
    (tmp_path / name).write_bytes(contents[name])
    with pytest.raises(ValueError, match=name):
        read_model(tmp_path / name)


@pytest.mark.parametrize(("read", "data"), [(wholes, b"\x01" * 11), (floats, bytes(44))])
def test_a_list_of_many_numbers_is_refused_before_it_takes_memory(monkeypatch, read, data):
    monkeypatch.setattr("avatar.loaders.onnx.wire.MOST_LISTED", 10)
    assert len(read(memoryview(data[: len(data) // 11 * 10]))) == 10
    with pytest.raises(UnsupportedGraph, match="more than 10 numbers"):
        read(memoryview(data))

"""Graphs computed by PyTorch: the numbers are those of onnxruntime, and of the network that was exported."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avatar.loaders.onnx.runtime import RuntimeGraph
from avatar.loaders.onnx.torch_graph import TorchGraph
from avatar.loaders.onnx.wire import UnsupportedGraph

from .small_hubert import write_small_hubert

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    path = tmp_path_factory.mktemp("hubert") / "hubert.onnx"
    network = write_small_hubert(path)
    return path, network, TorchGraph(path, "the speech network", "input_values")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("samples", [6480, 3240, 12960, 6480])
def test_a_hubert_with_a_built_in_context_hears_what_onnxruntime_hears(hubert, samples, device):
    path, network, graph = hubert
    graph.to(device)
    sound = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    found = graph(sound)[0].cpu()
    graph.to("cpu")
    (expected,) = RuntimeGraph(path, "the speech network", "input_values")(sound)
    assert found.shape == (1, (samples - 80) // 320, 32)
    assert torch.allclose(found, expected, atol=2e-5 if device == "cpu" else 5e-3)  # TF32
    with torch.no_grad():
        assert torch.allclose(found, network(sound), atol=2e-5 if device == "cpu" else 5e-3)


def test_a_repeated_call_gives_the_same_bits_and_other_sound_gives_others(hubert):
    _, _, graph = hubert
    sound = torch.randn(1, 6480)
    first = graph(sound)[0].clone()
    other = graph(torch.randn(1, 6480))[0]
    assert torch.equal(first, graph(sound)[0])
    assert not torch.allclose(first, other, atol=1e-2)


def test_what_hangs_on_the_size_alone_is_computed_once_for_it(hubert):
    _, _, graph = hubert
    graph(torch.zeros(1, 6480))
    left = {node.operator for node, _ in graph._plan.nodes}
    assert not left & {"Shape", "Range", "Trilu", "ConstantOfShape", "Constant"}
    assert len(graph._plan.nodes) < len(graph._nodes)


def test_it_is_moved_as_a_module_and_keeps_nothing_of_a_size_where_it_was(hubert):
    _, _, graph = hubert
    graph(torch.zeros(1, 6480))
    graph.to("cpu")
    assert graph._plan is None
    assert sum(weight.numel() for weight in graph.parameters()) > 10_000


def write(path, nodes, constants=(), outputs=("y",), opset=17, shape=None):
    """A file of a graph of ``x``."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("x", onnx.TensorProto.FLOAT, shape)],
        [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, str(path))
    return path


ints = lambda *values: np.array(values, np.int64)  # noqa: E731
drawn = lambda *size: np.random.default_rng(sum(size)).standard_normal(size).astype(np.float32)  # noqa: E731
node = helper.make_node
CASES = {
    "conv1d": (
        [node("Conv", ["x", "w", "b"], ["y"], strides=[2], group=2)],
        {"w": drawn(6, 2, 3), "b": drawn(6)},
        (2, 4, 11),
    ),
    "conv2d uneven": (
        [node("Conv", ["x", "w"], ["y"], pads=[0, 1, 2, 0])],
        {"w": drawn(5, 3, 3, 3)},
        (1, 3, 9, 8),
    ),
    "conv2d same": (
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])],
        {"w": drawn(5, 3, 3, 3)},
        (1, 3, 9, 8),
    ),
    "conv2d dilated": (
        [node("Conv", ["x", "w"], ["y"], dilations=[2, 1], pads=[2, 1, 2, 1])],
        {"w": drawn(4, 3, 3, 3)},
        (1, 3, 9, 8),
    ),
    "maxima": (
        [node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2])],
        {},
        (1, 3, 9, 8),
    ),
    "maxima same": (
        [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")],
        {},
        (1, 3, 9, 8),
    ),
    "means": ([node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}, (1, 3, 9, 8)),
    "mean of all": ([node("GlobalAveragePool", ["x"], ["y"])], {}, (2, 3, 4, 5)),
    "batch norm": (
        [node("BatchNormalization", ["x", "a", "b", "c", "d"], ["y"], epsilon=1e-3)],
        {"a": drawn(3), "b": drawn(3) + 1, "c": drawn(3) + 2, "d": np.abs(drawn(3)) + 1},
        (2, 3, 4, 5),
    ),
    "instance norm": (
        [node("InstanceNormalization", ["x", "a", "b"], ["y"])],
        {"a": drawn(3), "b": drawn(3) + 1},
        (2, 3, 4, 5),
    ),
    "layer norm": (
        [node("LayerNormalization", ["x", "a", "b"], ["y"], axis=-1)],
        {"a": drawn(5), "b": drawn(5) + 1},
        (2, 3, 4, 5),
    ),
    "norm by parts": (
        [
            node("ReduceMean", ["x"], ["m"], axes=[-1]),
            node("Sub", ["x", "m"], ["d"]),
            node("Pow", ["d", "two"], ["s"]),
            node("ReduceMean", ["s"], ["v"], axes=[-1]),
            node("Add", ["v", "e"], ["w"]),
            node("Sqrt", ["w"], ["r"]),
            node("Div", ["d", "r"], ["y"]),
        ],
        {"two": np.float32(2), "e": np.float32(1e-5)},
        (2, 7),
    ),
    "response": (
        [node("ReduceL2", ["x"], ["n"], axes=[1, 2]), node("Mul", ["x", "n"], ["y"])],
        {},
        (2, 3, 4, 5),
    ),
    "sloped": ([node("PRelu", ["x", "w"], ["y"])], {"w": drawn(3, 1, 1)}, (2, 3, 4, 5)),
    "clipped": (
        [node("Clip", ["x", "low", "high"], ["y"])],
        {"low": np.float32(0), "high": np.float32(0.5)},
        (3, 4),
    ),
    "affine": (
        [node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=0.5)],
        {"w": drawn(6, 4), "b": drawn(6)},
        (3, 4),
    ),
    "cut backwards": (
        [node("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        {"s": ints(-1, 1), "e": ints(-(2**62), 2**62), "a": ints(1, 2), "t": ints(-2, 2)},
        (2, 5, 6),
    ),
    "gathered": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"i": ints(-1, 0, 2).reshape(1, 3)}, (2, 5, 6)),
    "padded": ([node("Pad", ["x", "p", "v"], ["y"])], {"p": ints(0, 1, 2, 0), "v": np.float32(3)}, (3, 4)),
    "parts": (
        [
            node("Split", ["x", "s"], ["a", "b"], axis=1),
            node("Concat", ["b", "a"], ["c"], axis=1),
            node("Transpose", ["c"], ["t"], perm=[1, 0]),
            node("Reshape", ["t", "z"], ["y"]),
        ],
        {"s": ints(1, 3), "z": ints(0, -1, 1)},
        (3, 4),
    ),
    "tiled": ([node("Tile", ["x", "r"], ["y"])], {"r": ints(2, 3)}, (3, 4)),
    "softmax": ([node("Softmax", ["x"], ["y"], axis=1)], {}, (2, 3, 4)),
    "mask of the size": (
        [
            node("Shape", ["x"], ["s"]),
            node("ConstantOfShape", ["s"], ["one"], value=numpy_helper.from_array(np.ones(1, np.float32))),
            node("Trilu", ["one"], ["low"], upper=0),
            node("Cast", ["low"], ["seen"], to=onnx.TensorProto.BOOL),
            node("Where", ["seen", "x", "far"], ["y"]),
        ],
        {"far": np.float32(-9)},
        (4, 4),
    ),
    "places of the size": (
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "one"], ["n"], axis=0),
            node("Range", ["zero", "n", "step"], ["i"]),
            node("Cast", ["i"], ["f"], to=onnx.TensorProto.FLOAT),
            node("Div", ["f", "two"], ["h"]),
            node("Add", ["x", "h"], ["y"]),
        ],
        {"one": np.int64(1), "zero": np.int64(0), "step": np.int64(1), "two": np.float32(2)},
        (3, 4),
    ),
    "spread": ([node("Expand", ["x", "s"], ["y"])], {"s": ints(5, 3, 1)}, (3, 4)),
    "activations": (
        [
            node("Erf", ["x"], ["a"]),
            node("Sigmoid", ["a"], ["b"]),
            node("LeakyRelu", ["x"], ["c"], alpha=0.2),
            node("Relu", ["c"], ["d"]),
            node("Tanh", ["d"], ["e"]),
            node("Max", ["b", "e", "x"], ["y"]),
        ],
        {},
        (3, 4),
    ),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_every_operator_computes_what_onnxruntime_computes(tmp_path, name, device):
    nodes, constants, size = CASES[name]
    path = write(tmp_path / "graph.onnx", nodes, constants, shape=list(size))
    x = torch.from_numpy(drawn(*size))
    graph = TorchGraph(path, "the network", "x").to(device)
    (expected,) = RuntimeGraph(path, "the network", "x")(x)
    near = 1e-5 if device == "cpu" else 1e-2  # TF32
    for _ in range(2):  # planned, then by the plan
        found = graph(x)[0].cpu()
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=near, rtol=near)


def test_softmax_of_old_graphs_is_over_all_that_follows(tmp_path):
    path = write(tmp_path / "graph.onnx", [node("Softmax", ["x"], ["y"], axis=1)], opset=12, shape=[2, 3, 4])
    x = torch.randn(2, 3, 4)
    (found,) = TorchGraph(path, "the network", "x")(x)
    assert torch.allclose(found, RuntimeGraph(path, "the network", "x")(x)[0], atol=1e-6)
    assert torch.allclose(found.sum((1, 2)), torch.ones(2))


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"], ["y"])], {"s": ints(2**20, 2**20)}),
        ([node("Expand", ["x", "s"], ["y"])], {"s": ints(2**40, 3, 4)}),
        ([node("Tile", ["x", "s"], ["y"])], {"s": ints(2**40, 1)}),
        ([node("Pad", ["x", "s"], ["y"])], {"s": ints(0, 2**50, 0, 0)}),
        ([node("Range", ["a", "b", "c"], ["y"])], {"a": np.int64(0), "b": np.int64(2**60), "c": np.int64(1)}),
        (
            [
                node("Expand", ["x", "s"], ["b"]),
                node("Transpose", ["b"], ["t"]),
                node("MatMul", ["t", "b"], ["y"]),
            ],
            {"s": ints(1, 3, 2**24)},
        ),
        ([node("Concat", [f"x{'x' * i}"] * 40, [f"xx{'x' * i}"], axis=0) for i in range(6)], {}),
        (
            [node("Conv", ["u", "w"], ["y"], pads=[2**30] * 4)],
            {"w": drawn(1, 1, 1, 1), "u": drawn(1, 1, 2, 2)},
        ),
    ],
)
def test_a_graph_that_asks_for_more_memory_than_any_network_is_refused_before_it_is_taken(
    tmp_path, nodes, constants
):
    path = write(tmp_path / "large.onnx", nodes, constants, outputs=(nodes[-1].output[0],))
    x = torch.zeros(1, 3, 1) if nodes[-1].op_type in ("MatMul", "Expand") else torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"Choose the network: .*large\.onnx .*asks for a value of the size"):
        TorchGraph(path, "the network", "x")(x)


def test_what_does_not_fit_the_input_is_said_in_one_sentence(tmp_path):
    path = write(tmp_path / "graph.onnx", [node("MatMul", ["x", "w"], ["y"])], {"w": drawn(4, 2)})
    graph = TorchGraph(path, "the network", "x")
    with pytest.raises(
        ValueError, match=r"Choose the network: .*graph\.onnx does not take this input \(MatMul"
    ):
        graph(torch.zeros(3, 5))


def test_operators_that_are_not_known_are_named(tmp_path):
    path = write(tmp_path / "graph.onnx", [node("Det", ["x"], ["y"])])
    with pytest.raises(UnsupportedGraph, match="Det"):
        TorchGraph(path, "the network", "x")

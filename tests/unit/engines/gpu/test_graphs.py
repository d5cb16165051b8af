"""Functions that are replayed as CUDA graphs, and weights that are moved meanwhile."""

from __future__ import annotations

import weakref

import pytest
import torch
from avatar.engines.gpu.graphs import CapturedCall, CapturedCalls, GraphLane, obstacle
from avatar.engines.gpu.weights import Weights
from torch import nn

from tests.unit.stand_in_graphs import Recorded, stand_in

CPU, DEVICE = torch.device("cpu"), torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available() or bool(obstacle(DEVICE)), reason="needs a GPU")


def by_other_memory(network: nn.Module) -> None:
    network[0].weight.data = network[0].weight.data.clone()


def by_another_parameter(network: nn.Module) -> None:
    network[0].bias = nn.Parameter(network[0].bias.detach().clone(), requires_grad=False)


def by_another_buffer(network: nn.Module) -> None:
    network[1].running_mean = network[1].running_mean.clone()


def there_and_back(network: nn.Module) -> None:
    """As a host does it: what was between the tensors meanwhile gives some of them other places."""
    network.to(torch.float64)
    network[0].bias.data = network[0].bias.data.clone()
    network.to(torch.float32)


MOVES = [by_other_memory, by_another_parameter, by_another_buffer, there_and_back]


def network(device: torch.device = CPU) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).to(device).eval().requires_grad_(False)


@pytest.fixture
def recorded(monkeypatch) -> type[Recorded]:
    return stand_in(monkeypatch)


@pytest.fixture
def watched(recorded) -> nn.Sequential:
    """A network whose graphs fail when they are replayed elsewhere."""
    made = network()
    recorded.watched.append(made)
    return made


def test_a_cpu_captures_nothing():
    assert obstacle(CPU) == "need an NVIDIA GPU"


def test_what_is_captured_once_is_replayed_for_each_shape_and_kind(recorded, watched):
    call = CapturedCall(watched, GraphLane(CPU), watched)
    for rows in (3, 5, 3, 5, 3):
        x = torch.randn(rows, 8)
        assert torch.equal(call(x), watched(x))
    assert len(recorded.made) == 2 and recorded.replays == 5


@pytest.mark.parametrize("move", MOVES)
def test_graphs_of_moved_weights_are_never_replayed(recorded, watched, move):
    call = CapturedCall(watched, GraphLane(CPU), watched)
    x = torch.randn(3, 8)
    for _ in range(2):
        call(x)
    move(watched)
    for _ in range(2):
        assert torch.equal(call(x), watched(x))  # a stale replay fails in the stand-in
    assert len(recorded.made) == 2 and recorded.replays == 4


def test_graphs_of_unmoved_weights_are_kept_whatever_the_weights_are(recorded, watched):
    call = CapturedCall(watched, GraphLane(CPU), watched)
    x = torch.randn(3, 8)
    call(x)
    watched[0].weight.mul_(2)  # as a host adds a LoRA
    assert torch.equal(call(x), watched(x))
    assert len(recorded.made) == 1


def test_weights_that_move_during_a_capture_are_called_with_once_and_captured_then(recorded, watched):
    moves = iter([by_other_memory])

    def function(x):
        result = watched(x)
        if recorded.made == [] and (move := next(moves, None)):
            move(watched)
        return result

    calls, x = CapturedCalls(GraphLane(CPU), Weights(watched)), torch.randn(3, 8)
    for replays in (0, 1):
        assert torch.equal(calls(function, (x,), warm_up=0), watched(x))
        assert recorded.replays == replays and calls.moves == 1


def test_memory_that_is_moved_while_a_replay_is_asked_for_is_kept_until_then(monkeypatch, recorded, watched):
    call = CapturedCall(watched, GraphLane(CPU), watched)
    x = torch.randn(3, 8)
    expected = call(x)
    memory, replay = weakref.ref(watched[0].weight.untyped_storage()), Recorded.replay
    there = []

    def moved_by_another_thread(self):
        replay(self)
        by_other_memory(watched)
        there.append(memory() is not None)

    monkeypatch.setattr(Recorded, "replay", moved_by_another_thread)
    assert torch.equal(call(x), expected)
    assert there == [True] and memory() is None


def test_a_moved_tensor_holds_no_old_memory(watched):
    weights = Weights(watched)
    old = weakref.ref(watched[0].weight.untyped_storage())
    by_other_memory(watched)
    assert old() is None and len(weights.held()) == len(watched.state_dict())


@needs_gpu
def test_graphs_of_a_lane_give_what_the_functions_give():
    weight, lane = torch.randn(8, 8, device=DEVICE), GraphLane(DEVICE)
    runs = []

    def function(x, pair):
        runs.append(tuple(x.shape))
        return x @ weight + pair[0] * pair[1], x.sum()

    first, second = CapturedCall(function, lane), CapturedCall(lambda x: (x @ weight).relu(), lane)
    kept = []
    for rows in (3, 5, 3, 5):
        x, pair = torch.randn(rows, 8, device=DEVICE), list(torch.randn(2, rows, 8, device=DEVICE))
        kept.append((first(x, pair), (x @ weight + pair[0] * pair[1], x.sum())))
        torch.testing.assert_close(second(x), (x @ weight).relu())
    for found, expected in kept:  # copies: what came later did not write over them
        torch.testing.assert_close(found, expected)
    assert runs.count((3, 8)) == runs.count((5, 8)) == 4  # three to warm up, and the capture


@needs_gpu
@pytest.mark.parametrize("move", [*MOVES, lambda network: network.to("cpu") and network.to(DEVICE)])
def test_on_a_gpu_moved_weights_are_captured_anew(move):
    """What was freed is filled with other values at once, which a stale graph would read."""
    here, lane = network(DEVICE), GraphLane(DEVICE)
    call, x = CapturedCall(here, lane, here), torch.randn(3, 8, device=DEVICE)
    torch.testing.assert_close(call(x), here(x))
    move(here)
    spoiled = [torch.full_like(tensor, 1e6) for tensor in here.state_dict().values() for _ in range(8)]
    for _ in range(2):
        torch.testing.assert_close(call(x), here(x))
    assert call._calls.moves <= 1 and len(spoiled) > 0


@needs_gpu
def test_on_a_gpu_memory_that_runs_out_in_a_capture_says_so_and_the_lane_goes_on():
    lane, x = GraphLane(DEVICE), torch.ones(3, device=DEVICE)
    with pytest.raises(torch.OutOfMemoryError):
        CapturedCalls(lane, Weights())(lambda x: torch.empty(1 << 50, device=DEVICE), (x,), warm_up=0)
    assert torch.equal(CapturedCall(lambda x: x * 2, lane)(x), x * 2)

"""Which speed is used where, and what happens to captured graphs when the host moves the weights."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from avatar.loaders.personalive.host_objects import WORKSPACE_BYTES_PER_PIXEL, HostCodec, ManagedPersonaLive
from avatar.sessions import residence as personalive_speed
from avatar.sessions.residence import Residence, check_speed

NEEDED = WORKSPACE_BYTES_PER_PIXEL * 512 * 512


class Engine:
    """Weights that can be moved, and a codec."""

    def __init__(self):
        self.denoising_unet = torch.nn.Module()
        self.codec = object()
        self.move()

    def move(self):
        self.denoising_unet.conv_in = torch.nn.Conv2d(1, 1, 1)


class Managed(ManagedPersonaLive):
    def __init__(self):
        self.engine = Engine()
        self.loads = 0

    def load(self, height, width):
        self.loads += 1
        return self.engine


@pytest.fixture
def machine(monkeypatch):
    """A host whose GPU a test describes."""
    found = types.SimpleNamespace(device="cuda", free=2 * NEEDED, allocator="native")
    management = types.ModuleType("comfy.model_management")
    management.get_torch_device = lambda: torch.device(found.device)
    management.get_free_memory = lambda device: found.free
    comfy = types.ModuleType("comfy")
    comfy.model_management = management
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: found.allocator)
    return found


@pytest.fixture
def calls(monkeypatch):
    """What was done to the engine, in order."""
    done = []

    def accelerate(engine, mode, graphs):
        done.append("+".join(filter(None, (mode, "graphs" if graphs else "kernels"))))

    monkeypatch.setattr(personalive_speed, "accelerate", accelerate)
    monkeypatch.setattr(personalive_speed, "plain", lambda engine: done.append("plain"))
    return done


def stay(speed, managed=None, interrupt=lambda: None):
    return Residence(managed or Managed(), speed, 512, 512, interrupt)


def test_auto_captures_graphs_on_an_nvidia_gpu_with_room_for_them(machine, calls):
    here = stay("auto")
    assert calls == ["graphs"]
    here.leave()
    assert calls == ["graphs", "plain"]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_auto_is_plain_on_anything_else(machine, calls, device):
    machine.device = device
    stay("auto").leave()
    assert calls == []


def test_auto_is_plain_on_an_amd_gpu(machine, calls, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    stay("auto")
    assert calls == []


def test_auto_captures_nothing_where_the_memory_is_short(machine, calls):
    machine.free = NEEDED - 1
    stay("auto").leave()
    assert calls == ["kernels", "plain"]


def test_nothing_is_captured_with_the_asynchronous_allocator(machine, calls):
    machine.allocator = "cudaMallocAsync"
    stay("auto").leave()
    stay("compiled").leave()
    assert calls == ["kernels", "plain", "default+kernels", "plain"]
    with pytest.raises(ValueError, match="start ComfyUI with --disable-cuda-malloc") as error:
        check_speed("CUDA graphs", Managed())
    assert len(str(error.value).splitlines()) == 1


def test_auto_is_plain_with_the_vae_of_the_host(machine, calls):
    managed = Managed()
    managed.engine.codec = HostCodec.__new__(HostCodec)
    stay("auto", managed)
    assert calls == []
    check_speed("auto", managed)
    with pytest.raises(
        ValueError, match="'CUDA graphs' needs the checkpoint's own VAE; disconnect the host's"
    ):
        check_speed("CUDA graphs", managed)


def test_plain_stays_plain(machine, calls):
    stay("plain").leave()
    assert calls == []


def test_only_who_asks_for_it_waits_for_the_compiler(machine, calls):
    stay("compiled").leave()
    assert calls == ["default+graphs", "plain"]


def test_a_speed_without_its_gpu_is_one_sentence(machine):
    machine.device = "cpu"
    for speed in ("CUDA graphs", "compiled"):
        with pytest.raises(ValueError, match=f"'{speed}' needs an NVIDIA GPU; choose 'auto'"):
            check_speed(speed, Managed())
    check_speed("auto", Managed())
    check_speed("plain", Managed())


def test_compiling_without_triton_is_refused_before_anything_is_loaded(machine, calls, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    managed = Managed()
    with pytest.raises(
        RuntimeError, match="Compiling needs Triton, which is not installed; install triton"
    ) as error:
        check_speed("compiled", managed)
    assert len(str(error.value).splitlines()) == 1
    assert managed.loads == 0
    check_speed("CUDA graphs", managed)  # needs none


def test_graphs_are_captured_again_after_the_host_moved_the_weights(machine, calls):
    managed = Managed()
    here = stay("auto", managed)
    here.check()
    assert calls == ["graphs"] and managed.loads == 1
    managed.engine.move()
    here.check()
    assert calls == ["graphs", "plain", "graphs"] and managed.loads == 2
    here.check()
    assert managed.loads == 2


def test_an_interruption_comes_first(machine, calls):
    def stop():
        raise InterruptedError

    here = stay("plain", interrupt=stop)
    with pytest.raises(InterruptedError):
        here.check()


def test_networks_that_were_pushed_out_come_back_and_others_are_left_alone():
    managed = Managed()
    managed.engine.device = torch.device("cpu")
    managed.patcher = types.SimpleNamespace(load_device=torch.device("cpu"))
    managed.bring_back(512, 512)
    assert managed.loads == 0
    managed.patcher.load_device = torch.device("cuda:0")
    managed.bring_back(512, 512)
    assert managed.loads == 1

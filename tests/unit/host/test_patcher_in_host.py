"""Modules of ours in the memory management of a real ComfyUI (a process of its own)."""

from __future__ import annotations

from tests.unit.in_host import run_in_host

PROGRAM = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import torch
from comfy import model_management as host
sys.path.insert(0, {root!r})
import tools.pack
from avatar.host.memory import bring, patcher_of
from torch import nn

# "meta" stands in for the CPU memory where a module rests, and the CPU for a GPU.
here, away = torch.device("cpu"), torch.device("meta")

class Ours(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8)))
        self.register_buffer("packed", torch.zeros(100, dtype=torch.uint8))

def entry(patcher):
    (found,) = (loaded for loaded in host.current_loaded_models if loaded.model is patcher)
    return found

def places(patcher):
    return {{str(tensor.device) for tensor in patcher.model.state_dict().values()}}

for whole, host.DISABLE_SMART_MEMORY in ((True, False), (False, False), (True, True)):
    ours = patcher_of(Ours(), here)
    ours.offload_device = away
    size = ours.model_size()
    for _ in range(2):
        bring([ours], whole=whole)
        assert ours.loaded_size() == size and places(ours) == {{"cpu"}}, (ours.loaded_size(), places(ours))
        bring([ours], whole=whole)  # nothing to do
        assert places(ours) == {{"cpu"}}
        # Another model wants the room of two of the layers.
        assert entry(ours).model_unload(2 * 64 * 64 * 4), "the host believes that a part of it stays"
        assert ours.loaded_size() == 0 and places(ours) == {{"meta"}}, places(ours)
        host.current_loaded_models.remove(entry(ours))
        ours.model.to_empty(device="cpu")
print("fine")
"""


def test_a_module_is_on_its_device_as_a_whole_or_not_at_all():
    run_in_host(PROGRAM)

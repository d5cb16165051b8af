"""What the pack costs a host before anybody uses it."""

from __future__ import annotations

from .in_host import run_in_host

REGISTER = """
import asyncio, sys
sys.path.append({root!r})
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.cli_args
import utils.install_util  # before other packages bring a module of this name
import execution, nodes, server

before = set(sys.modules)
import tools.pack
extension = asyncio.run(sys.modules["avatar"].comfy_entrypoint())
server.PromptServer.instance = None  # none runs
found = asyncio.run(extension.get_node_list())
for node in found:
    node.GET_SCHEMA()
assert len(found) > 15, found
new = set(sys.modules) - before
late = {{"transformers", "diffusers", "peft", "cv2", "scipy", "accelerate", "torchvision"}}
ours = sorted(name for name in new if name.partition(".")[0] in late)
assert not ours, ours
print("fine")
"""


def test_registering_the_nodes_imports_no_library_of_models():
    run_in_host(REGISTER)

"""What the log says of packages that do not fit together."""

from __future__ import annotations

from ..in_host import run_in_host

TELL = """
import importlib, importlib.metadata, sys, types
sys.path.append({root!r})
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.cli_args
import utils.install_util  # before other packages bring a module of this name
import execution, nodes, server
import tools.pack

installed = importlib.import_module("avatar.nodes.installed")
told = []
installed.logger.warning = lambda line, *values: told.append(line % values)
for torch, diffusers, lines in (
    ("2.4.1+cu121", "0.36.0", 0),
    ("2.4.1+cu121", "0.37.0", 1),
    ("2.5.1", "0.40.0", 0),
    ("2.5.1", "0.41.0.dev0", 1),
    ("2.6.0", "0.42.1", 0),
    ("2.14.1", "0.42.1", 0),
):
    installed.torch = types.SimpleNamespace(__version__=torch)
    importlib.metadata.version = lambda name: diffusers
    installed.tell_of_old_torch()
    assert len(told) == lines, (torch, diffusers, told)
    assert all("diffusers<0.37" in line and diffusers in line and torch in line for line in told), told
    told.clear()
print("fine")
"""


def test_a_diffusers_that_is_too_new_for_torch_is_told_with_what_to_do():
    run_in_host(TELL)

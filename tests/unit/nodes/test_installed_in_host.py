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
for torch, diffusers, transformers, peft, named in (
    ("2.4.1+cu121", "0.36.0", "4.52.4", "0.18.0", []),
    ("2.4.1+cu121", "0.37.0", "4.52.4", "0.18.0", ["diffusers<0.37"]),
    ("2.5.1", "0.40.0", "4.50.3", "0.17.1", []),
    ("2.5.1", "0.41.0.dev0", "4.50.3", "0.18.0", ["diffusers<0.37", "peft<0.18"]),
    ("2.6.0", "0.42.1", "4.51.3", "0.21.2", ["peft<0.18"]),
    ("2.14.1", "0.42.1", "5.17.0", "0.21.2", []),
):
    installed.torch = types.SimpleNamespace(__version__=torch)
    versions = dict(diffusers=diffusers, transformers=transformers, peft=peft)
    importlib.metadata.version = versions.__getitem__
    installed.tell_of_mismatches()
    assert len(told) == len(named), (torch, versions, told)
    assert all(name in line for name, line in zip(named, told)), told
    told.clear()
print("fine")
"""


def test_a_package_that_is_too_new_for_another_is_told_with_what_to_do():
    run_in_host(TELL)

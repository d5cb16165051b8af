"""The example files in the host's input folder: there at the first start, and nobody's files are touched."""

from __future__ import annotations

from tests.unit.in_host import run_in_host

PROGRAM = """
import logging, sys, types
from pathlib import Path
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import folder_paths
sys.path.insert(0, {root!r})
import tools.pack
# The module by itself: the whole package would start a server.
sys.modules["avatar.nodes"] = types.ModuleType("avatar.nodes")
sys.modules["avatar.nodes"].__path__ = [{root!r} + "/nodes"]
from avatar.nodes.examples import install_examples

base = Path({folder!r})
(base / "input").mkdir()
folder_paths.set_input_directory(str(base / "input"))
folder_paths.set_user_directory(str(base / "user"))
shipped = {{file.name: file.read_bytes() for file in (Path({root!r}) / "talker" / "example").iterdir()}}

def found():
    return {{file.name.removeprefix("liveavatar_"): file.read_bytes() for file in (base / "input").iterdir()}}

own = base / "input" / "liveavatar_portrait_2.png"
own.write_bytes(b"somebody's own")
install_examples()
assert found() == shipped | {{"portrait_2.png": b"somebody's own"}}
(base / "input" / "liveavatar_speech.ogg").unlink()
install_examples()
assert "speech.ogg" not in found(), "what was deleted comes back"

said = []

class Said(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())

logging.getLogger().addHandler(Said())
folder_paths.set_input_directory(str(base / "nowhere"))
folder_paths.set_user_directory(str(base / "other"))
install_examples()
assert len(said) == 1 and "by hand" in said[0], said
print("fine")
"""


def test_examples_are_put_into_the_input_folder_once(tmp_path):
    run_in_host(PROGRAM, folder=str(tmp_path))

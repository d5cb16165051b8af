"""Files that came with requests are kept as long as somebody may need them."""

from __future__ import annotations

from tests.unit.in_host import run_in_host

PROGRAM = """
import sys
sys.path.append({root!r})
import comfy.options
comfy.options.enable_args_parsing()
sys.argv = ["main.py", "--cpu"]
import comfy.cli_args
import utils.install_util  # before other packages bring a module of this name
import tools.pack
import os, time, types
from pathlib import Path
import folder_paths
from server import PromptServer
folder_paths.set_temp_directory({folder!r})
from avatar.serving import uploads

queued = []
PromptServer.instance = types.SimpleNamespace(
    prompt_queue=types.SimpleNamespace(get_current_queue_volatile=lambda: ([], queued))
)
folder = Path({folder!r}) / uploads.FOLDER
uploads.forget_unused()  # there is no folder yet
names = [uploads._keep(data, ".png") for data in (b"a", b"b", b"c")]
assert names[0] == uploads._keep(b"a", ".png"), "the same bytes are one file"
files = [folder / name.removesuffix(" [temp]").rpartition("/")[2] for name in names]

def there():
    uploads.forget_unused()
    return [file.exists() for file in files]

def age(file, seconds):
    os.utime(file, (time.time() - seconds,) * 2)

assert there() == [True] * 3
for file in files:
    age(file, uploads.KEPT_SECONDS + 5)
queued.append((0, "id", {{"1": {{"inputs": {{"image": names[1]}}}}}}))
uploads._keep(b"c", ".png")  # asked for again
assert there() == [False, True, True]

uploads.KEPT_BYTES = 1
age(files[2], uploads.ARRIVING_SECONDS - 5)
assert there() == [False, True, True], "its prompt may be on its way"
age(files[2], uploads.ARRIVING_SECONDS + 5)
assert there() == [False, True, False]
queued.clear()
assert there() == [False] * 3, "nobody names it any more"
print("fine")
"""


def test_a_file_stays_while_a_prompt_names_it_or_may_be_on_its_way(tmp_path):
    run_in_host(PROGRAM, folder=str(tmp_path))

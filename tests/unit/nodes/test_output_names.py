"""File name prefixes: what is replaced in them, and what no file can be called (inside a real ComfyUI)."""

from __future__ import annotations

import pytest

from tests.unit.in_host import run_in_host

BEGIN = """
import os, sys, time, types
from pathlib import Path
from types import SimpleNamespace
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
sys.path.insert(0, {root!r})
import tools.pack
# The module by itself: the whole package would start a server.
sys.modules["avatar.nodes"] = types.ModuleType("avatar.nodes")
sys.modules["avatar.nodes"].__path__ = [{root!r} + "/nodes"]
from avatar.nodes import output_names as names
date, fill_in, new_file, place_for = names.date, names.fill_in, names.new_file, names.place_for

root = {folder!r}
"""

REPLACED = (
    BEGIN
    + """
def node(type_, title, **inputs):
    return {{"class_type": type_, "_meta": {{"title": title}}, "inputs": inputs}}

prompt = {{
    "1": node("Sampler", "My sampler", seed=7, cfg=2.0, shift=1.25, live=True, model=["2", 0], path="a/b:c<d>"),
    "3": node("Sampler", "Another", seed=8),
    "5:4": node("Loader", "Inside", name="x"),
}}
workflow = {{"nodes": [{{"id": 3, "properties": {{"Node name for S&R": "Renamed"}}}}, None, {{"id": 9}}]}}
hidden = SimpleNamespace(prompt=prompt, extra_pnginfo={{"workflow": workflow}})
for prefix, expected in (
    ("video/%Sampler.seed%_%Sampler.cfg%_%Sampler.shift%_%Sampler.live%", "video/7_2_1.25_true"),
    ("%My sampler.seed%-%Another.seed%-%Renamed.seed%-%Inside.name%", "7-8-8-x"),
    ("%Sampler.path%", "a_b_c_d_"),
    ("%Sampler.model%%Sampler.nothing%%Nobody.seed%", "%Sampler.model%%Sampler.nothing%%Nobody.seed%"),
    ("%width%x%year%%%a.b.c%", "%width%x%year%%%a.b.c%"),
    ("100%", "100%"),
):
    assert fill_in(prefix, hidden) == expected, (prefix, fill_in(prefix, hidden))
for odd in (None, SimpleNamespace(), SimpleNamespace(prompt=[], extra_pnginfo=3)):
    assert fill_in("%Sampler.seed%", odd) == "%Sampler.seed%"
    assert fill_in("%date:yyyy%", odd) == time.strftime("%Y")

moment = time.strptime("2031-02-03 04:05:06", "%Y-%m-%d %H:%M:%S")
for pattern, expected in (
    ("yyyy-MM-dd", "2031-02-03"),
    ("yy-M-d h:m:s", "31-2-3 4:5:6"),
    ("hhmmss", "040506"),
    ("", ""),
):
    assert date(pattern, moment) == expected, date(pattern, moment)

place = place_for("%date:yyyy%/%Sampler.seed%_%width%", root, hidden, 64, 32)
assert place.subfolder == time.strftime("%Y") and place.name == "7_64" and place.number == 1
assert place.folder == Path(root) / place.subfolder and place.folder.is_dir()
files = [new_file(place, ".x") for _ in range(2)]
assert [file.name for file in files] == ["7_64_00001_.x", "7_64_00002_.x"], files
print("fine")
"""
)

REFUSED = (
    BEGIN
    + """
Path(root, "file").touch()
for prefix, kind, text in (
    ("a\\0b", ValueError, "Take NUL"),
    ("a\\ud800b", ValueError, "halves of characters"),
    ("x" * 300, ValueError, "Shorten filename_prefix: a name may have 200 bytes"),
    ("ä" * 120, ValueError, "Shorten filename_prefix"),
    ("x" * 300 + "/a", ValueError, "Shorten filename_prefix"),
    ("a/" * 3000 + "b", ValueError, "Shorten filename_prefix"),
    ("file/b", ValueError, "is a file, not a folder"),
    ("../b/c", ValueError, "leads out"),
    ("/etc/b", ValueError, "leads out"),
):
    try:
        place_for(prefix, root)
    except kind as error:
        assert text in str(error) and "\\n" not in str(error), (prefix[:9], str(error))
    else:
        raise AssertionError(prefix[:9])
longest = place_for("y" * 200, root)
(longest.folder / (longest.name + "_0000001_.mp4.resume.safetensors.new")).touch()
print("fine")
"""
)


@pytest.mark.parametrize("program", [REPLACED, REFUSED], ids=["replaced", "refused"])
def test_a_prefix_means_what_it_means_in_save_video_and_what_cannot_be_is_refused(tmp_path, program):
    run_in_host(program, folder=str(tmp_path))

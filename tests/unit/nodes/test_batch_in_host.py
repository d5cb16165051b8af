"""The node Batch with the host's loaders: what it reads, what it names, and what it skips."""

from __future__ import annotations

import wave
from pathlib import Path

from PIL import Image

from tests.unit.in_host import run_in_host

PROGRAM = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util
import json, types
from pathlib import Path
import folder_paths
import nodes, server
sys.path.insert(0, {root!r})
import tools.pack
from avatar.nodes import batch

base = Path({base!r})
for name in ("input", "output", "temp"):
    getattr(folder_paths, f"set_{{name}}_directory")(str(base / name))
ALL = dict.fromkeys(range(len(batch.OUTPUTS)))
told = []
batch.show_text = lambda text, hidden: told.append(text)

def make(*rows, slots=ALL, skip=True):
    (base / "input" / "rows.json").write_text(json.dumps(rows))
    links = {{f"in{{slot}}": ["1", slot] for slot in slots}}
    batch.AvatarBatch.hidden = types.SimpleNamespace(
        prompt={{"2": {{"inputs": links}}}}, extra_pnginfo=None, unique_id="1"
    )
    lists = batch.AvatarBatch.execute(
        file="rows.json", folder="made", skip_finished=skip, prompt="Usual.", steps=4, guidance=1.0
    ).args
    return dict(zip(batch.OUTPUTS, lists, strict=True))

def row(number, **values):
    return {{"image": "face.png", "audio": "speech.wav", "output": f"row{{number}}", "seed": number, **values}}

# Rows share what they read.
made = make(row(1), row(2, prompt="Mine."), row(3, seed="random"))
assert made["prompt"] == ["Usual.", "Mine.", "Usual."] and made["seed"][:2] == [1, 2]
assert made["image"][0].shape == (1, 8, 8, 3) and made["audio"][0]["sample_rate"] == 16000
assert all(len({{id(value) for value in made[name]}}) == 1 for name in ("image", "audio"))

# Whole videos are finished, others not.
folder = base / "output" / "made"
folder.mkdir()
for name in made["name"][:2]:
    (base / "output" / f"{{name}}_00001_.mp4").touch()
(base / "output" / f"{{made['name'][1]}}_00001_.mp4.resume.json").touch()
(folder / "row3-_00001_.mp4").touch()
left = make(row(1), row(2, prompt="Mine."), row(3, seed="random"))
assert left["name"] == made["name"][1:], left["name"]
assert told[-1] == "3 rows: 2 to make, 1 finished, 0 left out"
assert len(make(row(1), skip=False)["name"]) == 1

# Files that cannot be read, and wishes that nobody meets, are those of their rows.
some = make(
    row(1, image="broken.png"), row(2, image="cut.webp"), row(3, audio="broken.wav"), row(4),
    {{"image": "face.png", "text": "Hello.", "voice": "Ana"}},
)  # fmt: skip
assert [name.partition("-")[0] for name in some["name"]] == ["made/row4"]
first, *said = told[-1].splitlines()
assert first == "5 rows: 1 to make, 0 finished, 4 left out"
for line, words in zip(
    sorted(said),
    ("row 1: Choose another picture than 'broken.png'", "row 2: Choose another picture than 'cut.webp'",
     "row 3: ", "row 5: Take voice out of the row"),
    strict=True,
):  # fmt: skip
    assert line.startswith(words), said
without = [slot for slot, name in enumerate(batch.OUTPUTS) if name != "prompt"]
make(row(1, prompt="Mine."), row(2), slots=without, skip=False)
assert "row 1: Connect Batch's output prompt" in told[-1], told[-1]

# Memory for pictures is asked for once per picture.
asked = []
batch.check_room = lambda needed, what, advice: asked.append((needed, what))
make(row(4), row(5))
assert asked == [(8 * 8 * 12, "1 pictures")], asked
print("fine")
"""


def test_rows_share_files_bad_ones_are_named_and_finished_ones_are_skipped(tmp_path: Path):
    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
    folder = tmp_path / "input"
    Image.effect_noise((8, 8), 50).convert("RGB").save(folder / "face.png")
    Image.effect_noise((64, 64), 50).convert("RGB").save(folder / "whole.webp")
    (folder / "cut.webp").write_bytes((folder / "whole.webp").read_bytes()[:1000])
    for name in ("broken.png", "broken.wav"):
        (folder / name).write_bytes(b"nothing")
    with wave.open(str(folder / "speech.wav"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(3200))
    run_in_host(PROGRAM, base=str(tmp_path))

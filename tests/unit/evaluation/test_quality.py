"""Pictures are judged once a second, by a process that is asked and ended properly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from avatar.evaluation.quality_process import QAlign
from avatar.evaluation.readers.quality import Quality

from .videos import clip_of, faces

STAND_IN = """#!{python}
import json, sys
from PIL import Image
if {broken}:
    sys.exit(3)
print("ready", flush=True)
for line in sys.stdin:
    red, green, _ = Image.open(json.loads(line)).convert("RGB").getpixel((0, 0))
    print(json.dumps([red, green]), flush=True)
"""


class First:
    """Judges a picture by its first pixel."""

    def __init__(self) -> None:
        self.asked = 0

    def judge(self, picture: torch.Tensor) -> tuple[float, float]:
        self.asked += 1
        return float(picture[0, 0, 0]), float(picture[0, 0, 1])


def stand_in(folder: Path, broken: bool = False) -> Path:
    """A Python that answers as Q-Align's program does, whatever it is asked to run."""
    path = folder / "python"
    path.write_text(STAND_IN.format(python=sys.executable, broken=broken), encoding="utf-8")
    path.chmod(0o755)
    return path


def test_one_frame_of_each_second_is_judged():
    judge = First()
    reader = Quality(judge)
    frames = faces(torch.zeros(60))
    frames[50, 0, 0] = torch.tensor([7, 9, 0], dtype=torch.uint8)
    parts = [reader.read(piece) for piece in clip_of(frames).pieces()]
    times = torch.cat([part["quality"].times for part in parts])
    assert judge.asked == 3 and times.tolist() == [0, 1, 2]
    for name, last in (("aesthetics", 7), ("quality", 9)):
        assert float(torch.cat([part[name].values for part in parts]).flatten()[-1]) == last


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_another_python_judges_and_is_ended(tmp_path):
    judge = QAlign(stand_in(tmp_path), tmp_path)
    picture = torch.zeros(8, 8, 3, dtype=torch.uint8)
    picture[0, 0] = torch.tensor([11, 22, 33])
    assert judge.judge(picture) == (11, 22)
    judge.close()
    assert judge._process.poll() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_a_process_that_does_not_start_and_paths_that_are_not_there_are_said(tmp_path):
    with pytest.raises(RuntimeError, match="by hand to see what it lacks"):
        QAlign(stand_in(tmp_path, broken=True), tmp_path)
    with pytest.raises(FileNotFoundError, match="--qalign-model"):
        QAlign(tmp_path / "none", tmp_path)

"""Q-Align in a process of its own, since its code needs transformers 4.37 and this pack does not pin any."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from torch import Tensor

PROGRAM = """
import json, sys
import torch
from PIL import Image
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(
    sys.argv[1], trust_remote_code=True, local_files_only=True, attn_implementation="eager",
    torch_dtype=torch.float16, device_map="auto"
)
print("ready", flush=True)
for line in sys.stdin:
    picture = Image.open(json.loads(line)).convert("RGB")
    found = [float(model.score([picture], task_=task, input_="image")[0]) for task in ("aesthetics", "quality")]
    print(json.dumps(found), flush=True)
"""
"""Reads the path of a picture per line and answers two numbers. It runs the code in the model's folder, which the one
who gives that folder has to trust."""


class QAlign:
    """Judges pictures with another Python's transformers; close it after use."""

    def __init__(self, python: Path, model: Path) -> None:
        """FileNotFoundError without one of the two, RuntimeError when the process does not start."""
        for path in (python, model):
            if not Path(path).exists():
                raise FileNotFoundError(
                    f"Give --qalign and --qalign-model paths that exist: there is no {path}."
                )
        self._process = subprocess.Popen(
            [str(python), "-c", PROGRAM, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer("ready")

    def judge(self, picture: Tensor) -> tuple[float, float]:
        """Aesthetics and quality, 1 to 5, of a picture ``[H, W, 3]``, uint8."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame.png"
            Image.fromarray(picture.numpy()).save(path)
            self._process.stdin.write(json.dumps(str(path)) + "\n")
            self._process.stdin.flush()
            aesthetics, quality = json.loads(self._answer())
        return aesthetics, quality

    def _answer(self, expected: str = "") -> str:
        line = self._process.stdout.readline().strip()
        if not line or (expected and line != expected):
            raise RuntimeError(
                f"Run Q-Align's Python by hand to see what it lacks: its process ended with {self._process.poll()}."
            )
        return line

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

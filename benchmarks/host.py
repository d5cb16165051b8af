"""The whole way through a real ComfyUI at full size: seconds to the first bytes, frames per second, memory.

    python -m benchmarks.host --host ~/ComfyUI --work /scratch --json host.json
    python -m benchmarks.host --host ~/ComfyUI --work /scratch --card 24 core:auto core:auto+seed core:fast -- --lowvram
    python -m benchmarks.host --host .run/host --work dry-run --tiny          # a dry run, also on a CPU

``--work`` gets random weights in the published layout (34 GB, and 16 GB where a prompt asks for float8 files; about a
minute on a GPU machine), which are used again. A prompt is ``WORKFLOW:PERFORMANCE``, run one after the other in one
host, with the weights, speech and portrait of the prompts before unless it says what is new:

    core        own loaders, shipped workflow liveavatar_core      pose         with a pose video
    bf16, fp8   ComfyUI's own loaders (full size only)         live         speech that is posted
    personalive a portrait follows a driving video (a tiny checkpoint: whether it runs)

    +seed +portrait +prompt +steps3     what changes against the prompt before
    +copy       from here on the float8 copy is kept on the disk; the next call of this script reads it

``--card`` holds the GPU to so many GiB: another process takes the rest of its memory, so all allocators see it. What
follows ``--`` goes to the host.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image
from safetensors.torch import save_file

from tools import tiny_checkpoint
from tools.comfyui import prepare_base
from tools.connection import HTTP
from tools.demo_media import portrait, speech
from tools.environment import ROOT
from tools.host import Host
from tools.tiny_checkpoint import (
    AUDIO_DIM,
    FULL,
    HOST_TEXT_DIM,
    TEXT_DIM,
    TINY,
    lora_weights,
    weights,
    write_base,
)
from tools.tiny_fp8 import write_large_scaled_fp8

from .common import environment, print_table

RUNS = ("core:auto", "core:auto+seed", "core:fast", "core:fast+seed", "core:quality", "core:auto")
CHECKPOINT, LORA = "benchmark", "benchmark-lora/liveavatar.safetensors"
LIVE_ID = "a-benchmark-that-speaks-1"
BALLAST = """
import sys, torch
free, total = torch.cuda.mem_get_info()
held = torch.empty(max(0, free - int(float(sys.argv[1]) * 2**30)), dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


def write_models(models: Path, sizes: tiny_checkpoint.Sizes, runs: list[str]) -> None:
    """Everything that ``runs`` need under ``models``; what lies there already is kept."""
    folder, kinds = models / "liveavatar" / CHECKPOINT, {run.partition(":")[0] for run in runs}
    single = models / "diffusion_models" / "benchmark_bf16.safetensors"
    scaled = models / "diffusion_models" / "benchmark_fp8_scaled.safetensors"
    wanted = [folder / "done", *([single] if "bf16" in kinds else []), *([scaled] if "fp8" in kinds else [])]
    if not all(path.exists() for path in wanted):
        for name in ("diffusion_models", "vae", "liveavatar/benchmark-lora"):
            (models / name).mkdir(parents=True, exist_ok=True)
        text, audio = (HOST_TEXT_DIM, 1024) if sizes == FULL else (TEXT_DIM, AUDIO_DIM)
        state = write_base(folder, text, audio, sizes)
        save_file(lora_weights(state, sizes), models / "liveavatar" / LORA)
        vae = weights(tiny_checkpoint.vae_shapes(sizes.vae_width), torch.bfloat16)
        save_file(vae, models / "vae" / "benchmark_vae.safetensors")
        if single in wanted:
            (shard,) = folder.glob("diffusion_pytorch_model-*.safetensors")
            single.hardlink_to(shard)
        if scaled in wanted:
            write_large_scaled_fp8(scaled, state)
        (folder / "done").touch()
    if "personalive" in kinds:
        from tools.tiny_personalive import write_tiny_personalive

        target = models / "personalive" / "benchmark"
        if not target.exists():
            write_tiny_personalive(target)


def write_inputs(folder: Path, seconds: float) -> None:
    """Two portraits, speech, a pose video and a driving video."""
    speech(folder / "speech.wav", seconds)
    picture = Image.open(portrait(folder / "portrait.png"))
    picture.rotate(3).save(folder / "portrait2.png")
    for name, frames in (("pose.mp4", 50), ("driving.mp4", 100)):
        with av.open(str(folder / name), "w") as file:
            stream = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
            for i in range(frames):
                turned = picture.rotate(5 * math.sin(i / 8))
                file.mux(stream.encode(av.VideoFrame.from_image(turned)))
            file.mux(stream.encode())


@contextmanager
def ballast(card: float) -> Iterator[None]:
    """Leave ``card`` GiB of the GPU free; 0 leaves all of it."""
    if not card:
        yield
        return
    command = [sys.executable, "-c", BALLAST, str(card)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()


class Prompts:
    """The prompts of one host, each built on the one before."""

    def __init__(self, tiny: bool) -> None:
        self.tiny, self.seed, self.number = tiny, 7, 0
        self.portrait, self.text, self.steps = "portrait.png", "A person talks.", 4
        self.copy = "off"

    def build(self, run: str) -> tuple[str, dict[str, Any]]:
        """A name for the prompt's file, and the prompt."""
        kind, _, rest = run.partition(":")
        performance, *changes = rest.split("+")
        for change in changes:
            if change == "seed":
                self.seed += 1
            elif change == "portrait":
                self.portrait = "portrait2.png" if self.portrait == "portrait.png" else "portrait.png"
            elif change == "prompt":
                self.text += " Again."
            elif change == "copy":
                self.copy = "on"
            elif change.startswith("steps"):
                self.steps = int(change.removeprefix("steps"))
            else:
                raise SystemExit(f"{run}: there is no change called {change}")
        self.number += 1
        name = f"{self.number:02d}_{kind}_{performance}"
        source = {
            "pose": "liveavatar_pose_video",
            "live": "liveavatar_live_speech",
            "personalive": "personalive",
        }
        file = f"{source.get(kind, 'liveavatar')}{'_core' if kind in ('core', 'bf16', 'fp8', 'personalive') else ''}"
        prompt = json.loads((ROOT / "workflows" / "api" / f"{file}.json").read_text(encoding="utf-8"))
        size = (64, 64) if self.tiny else (704, 384)
        settings = {
            "LiveAvatarLoadCheckpoint": {"checkpoint": CHECKPOINT, "lora": LORA, "float8_copy": self.copy},
            "LiveAvatarReferenceImage": {"size": "exact", "width": size[0], "height": size[1]},
            "LiveAvatarSampler": {"seed": self.seed, "steps": self.steps, "performance": performance},
            "AvatarStreamToVideo": {"filename_prefix": f"video/{name}", "resume": False},
            "LiveAvatarLiveSpeech": {"id": LIVE_ID},
            "LoadImage": {"image": self.portrait},
            "LoadAudio": {"audio": "speech.wav"},
            "LoadVideo": {"file": "pose.mp4" if kind == "pose" else "driving.mp4"},
            "CLIPTextEncode": {"text": self.text},
            "PersonaLiveLoadModel": {"checkpoint": "benchmark"},
            "PersonaLivePortrait": {"width": 128, "height": 128} if self.tiny else {},
        }
        for node in prompt.values():
            node["inputs"].update(settings.get(node["class_type"], {}))
        if kind in ("bf16", "fp8"):
            self._host_loaders(prompt, "bf16" if kind == "bf16" else "fp8_scaled")
        return name, prompt

    @staticmethod
    def _host_loaders(prompt: dict[str, Any], file: str) -> None:
        """Model and VAE by ComfyUI's loaders; text and audio encoder stay (their sizes are fixed there)."""
        name = f"benchmark_{file}.safetensors"
        prompt["20"] = {"class_type": "UNETLoader", "inputs": {"unet_name": name, "weight_dtype": "default"}}
        lora = {"model": ["20", 0], "lora": LORA, "strength": 1.0, "download": False}
        prompt["21"] = {"class_type": "LiveAvatarApplyLora", "inputs": lora}
        prompt["22"] = {"class_type": "VAELoader", "inputs": {"vae_name": "benchmark_vae.safetensors"}}
        (loader,) = (key for key, node in prompt.items() if node["class_type"] == "LiveAvatarLoadCheckpoint")
        for node in prompt.values():
            for key, value in node["inputs"].items():
                if value == [loader, 0]:
                    node["inputs"][key] = ["21", 0]
                elif value == [loader, 2]:
                    node["inputs"][key] = ["22", 0]


def measure(host: Host, name: str, prompt: dict[str, Any], limit: float) -> dict[str, Any]:
    """Run one prompt and say how long everything took."""
    live = any(node["class_type"] == "LiveAvatarLiveSpeech" for node in prompt.values())
    host.get("/probe")
    start, first = time.monotonic(), None
    identity = host.submit(prompt)
    stop = threading.Event()
    if live:
        threading.Thread(target=speak, args=(host, stop), daemon=True).start()

    def watch() -> None:
        nonlocal first
        if first is None and any(f.stat().st_size > 2000 for f in host.output_dir.glob(f"video/{name}*.mp4")):
            first = time.monotonic() - start

    entry = host.wait(identity, limit, watch)
    total = time.monotonic() - start
    stop.set()
    watch()
    memory = host.get("/probe")
    spent = {
        prompt[part.removeprefix("node ")]["class_type"] if part.startswith("node ") else part: round(
            value, 2
        )
        for part, value in memory.pop("seconds").items()
    }
    frames = 0
    for file in sorted(host.output_dir.glob(f"video/{name}*.mp4"))[-1:]:
        with av.open(str(file)) as container:
            frames = sum(1 for _ in container.decode(video=0))
    found = {
        "prompt": name,
        "errors": host.errors(entry),
        "first bytes s": first,
        "all s": total,
        "frames": frames,
        "FPS over all": frames / total,
        "FPS after the first bytes": frames / (total - first) if first and total > first else None,
    }
    return found | {"seconds": spent} | {f"{key} GB": value / 1e9 for key, value in memory.items()}


def speak(host: Host, stop: threading.Event) -> None:
    """Post the speech once the run listens, and end it."""
    body = (host.input_dir / "speech.wav").read_bytes()
    for path, data in ((LIVE_ID, body), (f"{LIVE_ID}/end", b"")):
        while not stop.wait(0.1):
            try:
                request = urllib.request.Request(f"{host.url}/liveavatar/speech/{path}", data, method="POST")
                HTTP.open(request, timeout=30)
                break
            except OSError:
                continue


def absolute(path: str) -> Path:
    """A path that means the same in another folder."""
    return Path(path).expanduser().resolve()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", default=list(RUNS), metavar="WORKFLOW:PERFORMANCE")
    parser.add_argument("--host", type=absolute, required=True, help="folder of a ComfyUI")
    parser.add_argument("--work", type=absolute, required=True, help="folder with room for 80 GB")
    parser.add_argument("--card", type=float, default=0, help="GiB that the GPU is held to; 0: all")
    parser.add_argument("--seconds", type=float, default=7, help="of speech")
    parser.add_argument("--limit", type=float, default=240, help="seconds for one prompt")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--tiny", action="store_true", help="a tiny checkpoint, 64x64")
    own, further = sys.argv[1:], []
    if "--" in own:
        own, further = own[: own.index("--")], own[own.index("--") + 1 :]
    args = parser.parse_args(own)

    base = args.work / "base"
    shutil.rmtree(base / "output", ignore_errors=True)  # files of another time would pass for the first bytes
    prepare_base(base, args.host)
    probe = base / "custom_nodes" / "host_probe"
    shutil.copytree(Path(__file__).parent / "host_probe", probe, dirs_exist_ok=True)
    started = time.monotonic()
    write_models(base / "models", TINY if args.tiny else FULL, args.runs)
    write_inputs(base / "input", 2 if args.tiny else args.seconds)
    print(f"models and inputs: {time.monotonic() - started:.0f} s", flush=True)
    page = args.work / "page"  # none is needed
    page.mkdir(exist_ok=True)
    (page / "index.html").write_text("<html></html>")

    rows, cuda = [], torch.cuda.is_available()
    os.environ["PROBE_GIB"] = str(args.card)
    with ballast(args.card if cuda else 0):
        arguments = ["--front-end-root", str(page), *further]
        prompts = Prompts(args.tiny)
        with Host(Path(sys.executable), args.host, base, cpu=not cuda, arguments=arguments) as host:
            for run in args.runs:
                name, prompt = prompts.build(run)
                try:
                    rows.append({"run": run, **measure(host, name, prompt, args.limit)})
                except Exception as error:
                    rows.append({"run": run, "errors": [str(error)[-1500:]]})
                print(json.dumps(rows[-1]), flush=True)
                if host.process.poll() is not None:
                    break
            log = host.log()
    columns = ["first bytes s", "all s", "frames", "FPS over all", "allocated GB", "reserved GB", "rss GB"]
    table = [
        [row["run"], *(row.get(c, "") if row.get(c) is not None else "" for c in columns), len(row["errors"])]
        for row in rows
    ]
    print_table(["prompt", *columns, "errors"], table)
    if args.json:
        about = environment(torch.device("cuda" if cuda else "cpu"))
        result = {"environment": about, "host": str(args.host), "card GiB": args.card, "arguments": further}
        args.json.write_text(json.dumps(result | {"prompts": rows}, indent=1))
        args.json.with_suffix(".log").write_text(log[-200_000:])


if __name__ == "__main__":
    main()

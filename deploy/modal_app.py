"""ComfyUI with this pack on Modal: one GPU that starts with the first request, and goes when nobody asks any more.

    modal deploy deploy/modal_app.py

Environment variables while deploying: LIVEAVATAR_GPU (L40S), LIVEAVATAR_WARM (seconds until it goes, 300).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import modal

PORT = 8188
HERE = Path(__file__).resolve().parent
COMMAND = ["python", "main.py", "--listen", "0.0.0.0", "--port", str(PORT), "--temp-directory", "/tmp"]
FOLDERS = [f"--{name}-directory=/data/{name}" for name in ("input", "output", "user")]

app = modal.App("liveavatar")
models = modal.Volume.from_name("liveavatar-models", create_if_missing=True)
data = modal.Volume.from_name("liveavatar-data", create_if_missing=True)
# Volumes are mounted on folders that are empty.
image = modal.Image.from_dockerfile(HERE / "Dockerfile", context_dir=HERE.parent).run_commands(
    "rm -rf /opt/ComfyUI/models /data"
)


@app.function(
    image=image,
    gpu=os.environ.get("LIVEAVATAR_GPU", "L40S"),
    volumes={"/opt/ComfyUI/models": models, "/data": data},
    scaledown_window=int(os.environ.get("LIVEAVATAR_WARM", "300")),
    timeout=24 * 60 * 60,
    max_containers=1,  # a live video is in the memory of the machine that makes it
)
@modal.concurrent(max_inputs=100)  # a page asks for many things beside the video
@modal.web_server(PORT, startup_timeout=600, requires_proxy_auth=True)
def comfyui() -> None:
    """ComfyUI, for who has a proxy token of this workspace."""
    for folder in ("input", "output", "user"):
        os.makedirs(f"/data/{folder}", exist_ok=True)
    subprocess.Popen(
        [*COMMAND, *FOLDERS], cwd="/opt/ComfyUI", env={**os.environ, "LIVEAVATAR_HTTP_NETWORK": "1"}
    )

"""The node that reads speech of any length from a file."""

from __future__ import annotations

import os
from typing import Any

import folder_paths
from comfy_api.latest import io

from ...host.folders import inside
from ...host.progress import check_interrupt
from ...media.mapped_sound import map_audio
from ..schema import Node, schema
from ..values import shown


class LiveAvatarLoadSpeechFile(Node):
    """Reads a long sound, which stays on the disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        folder = folder_paths.get_input_directory()
        files = folder_paths.filter_files_content_types(os.listdir(folder), ["audio", "video"])
        return schema(
            node_id="LiveAvatarLoadSpeechFile",
            search_aliases=["load audio", "long audio", "podcast", "audiobook"],
            display_name="LiveAvatar Load Speech File",
            description=(
                "Load Audio for sound of hours: it is decoded into the temporary folder and read from there piece by "
                "piece, instead of being held in memory. The result is ordinary AUDIO."
            ),
            inputs=[
                io.Combo.Input(
                    "audio",
                    options=sorted(files),
                    upload=io.UploadType.audio,
                    tooltip="A sound or video file in the input folder.",
                )
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, audio: str) -> str:
        """Changes with the file."""
        status = os.stat(inside(audio))
        return f"{status.st_size} {status.st_mtime_ns}"

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Files that are not there are refused when the workflow is queued."""
        super().check(values)
        if "audio" in values and not inside(values["audio"]).is_file():
            raise FileNotFoundError(
                f"Choose another file: there is no {shown(values['audio'])} in the input folder."
            )

    @classmethod
    def execute(cls, audio: str) -> io.NodeOutput:
        path = str(inside(audio))
        os.makedirs(folder_paths.get_temp_directory(), exist_ok=True)
        return io.NodeOutput(map_audio(path, folder_paths.get_temp_directory(), check_interrupt))

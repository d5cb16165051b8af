"""Nodes that consume an AVATAR_STREAM: as a growing video file, or as images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing

import folder_paths
import psutil
from comfy_api.latest import InputImpl, io, ui

from ..host.progress import Progress, show_text
from ..media.frame_rate import at_frame_rate
from ..media.frames import AvatarStream, FrameStream
from ..media.recording import Snapshots, begin, record
from ..media.writer import VideoWriter
from ..serving.live import announce, watchable
from ..serving.webrtc.broadcast import broadcasting
from .output_names import place_for
from .saving import SavingNode
from .schema import Node, schema
from .types import AvatarStreamType

FLOAT_FRAME_BYTES = 3 * 4


def _frame_rate() -> io.Float.Input:
    return io.Float.Input(
        "fps",
        default=0.0,
        min=0.0,
        max=60.0,
        step=0.001,
        optional=True,
        tooltip=(
            "Frames per second; 0 is the model's own rate. Another one shows frames longer or leaves some out: speed "
            "and sound stay."
        ),
    )


class AvatarStreamToVideo(SavingNode):
    """Writes the stream to a video file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarStreamToVideo",
            search_aliases=["save mp4", "talking head video", "lip sync", "avatar video", "live preview"],
            display_name="Avatar Stream to Video",
            description=(
                "Generates the stream into an mp4 with its original sound. The file plays at every moment while it "
                "grows, and this node shows it with sound while it is made. An interrupted run keeps everything that "
                "it has made. Gives a VIDEO for the core nodes."
            ),
            inputs=[
                AvatarStreamType.Input("stream", tooltip="The stream to generate."),
                io.String.Input(
                    "filename_prefix",
                    default="video/LiveAvatar",
                    tooltip=(
                        "Folder and name in the output folder; %date:yyyy-MM-dd% and %Node.widget% are replaced as in "
                        "Save Video."
                    ),
                ),
                io.Boolean.Input(
                    "save_output",
                    default=True,
                    tooltip="Keep the file in the output folder; off: in the temporary folder, for the next node.",
                ),
                io.Int.Input(
                    "crf",
                    default=18,
                    min=0,
                    max=51,
                    optional=True,
                    tooltip="Compression: lower is better and larger; 18 is visually lossless.",
                ),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    optional=True,
                    tooltip=(
                        "When an earlier run of exactly this video ended early (stopped, crashed, out of memory, disk "
                        "full), go on in its file; the frames are those of an uninterrupted run. Off: a new file."
                    ),
                ),
                io.Int.Input(
                    "snapshot_gb",
                    default=40,
                    min=0,
                    max=10_000,
                    optional=True,
                    tooltip=(
                        "Disk space for snapshots, in GB. From a snapshot a run goes on at once; without one it first "
                        "generates the frames in the file again. One snapshot takes 32 GB at 704x384 in 4 steps. "
                        "Snapshots cost at most 3 % of the time and vanish with the finished video. 0: none."
                    ),
                ),
                _frame_rate(),
            ],
            outputs=[io.Video.Output()],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        stream: AvatarStream,
        filename_prefix: str,
        save_output: bool,
        crf: int = 18,
        resume: bool = True,
        snapshot_gb: int = 40,
        fps: float = 0.0,
    ) -> io.NodeOutput:
        stream = at_frame_rate(stream, fps or stream.fps)
        root = folder_paths.get_output_directory() if save_output else folder_paths.get_temp_directory()
        folder, name, number, subfolder = place_for(
            filename_prefix, root, cls.hidden, width=stream.width, height=stream.height
        )
        fingerprint = None
        if resume and stream.resumable is not None:
            fingerprint = f"{stream.resumable.fingerprint()}-{crf}"
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            logging.warning("LiveAvatar: %s", text)
            show_text("\n".join(said), cls.hidden)

        writer = begin(
            folder,
            name,
            number,
            fingerprint,
            say,
            width=stream.width,
            height=stream.height,
            fps=stream.fps,
            audio=stream.audio,
            crf=crf,
            metadata=cls._metadata(),
            about=stream.resumable and stream.resumable.about,
        )
        path = writer.path
        if stream.on_file is not None:
            stream.on_file(path)
        place = ui.SavedResult(
            path.name, subfolder, io.FolderType.output if save_output else io.FolderType.temp
        )
        snapshots = None if fingerprint is None else Snapshots(path, snapshot_gb * 10**9, say)
        cls._write(stream, writer, snapshots, dict(place), say)
        preview = ui.PreviewVideo([place])
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=preview)

    @classmethod
    def _write(
        cls,
        stream: AvatarStream,
        writer: VideoWriter,
        snapshots: Snapshots | None,
        place: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        """Generate the stream into the file, which can be watched meanwhile; ``place`` is where the page finds it."""
        path, begun, progress = writer.path, writer.frames_written, Progress()
        # Readers of the live stream are cut loose before the writer closes and replaces the file, and are told of the
        # end after that. The outer ``writer`` closes the file where an error comes before the stream is there.
        with (
            writer,
            broadcasting(stream, say) as broadcast,
            watchable(stream, place, cls.hidden.extra_pnginfo, broadcast) as live,
            writer,
            live.readable(path),
        ):
            shown = stream if broadcast is None else broadcast.stream()
            if begun:
                say(f"Going on with {path.name} at {begun / stream.fps:.1f} s")
                live.go_on(begun, writer.size)
            with closing(record(shown, writer, snapshots, say)) as blocks:
                for reached, block in blocks:
                    if reached > begun:
                        live.advance(writer.frames_written, writer.mime_type, joinable=writer.joinable)
                        announce(live)
                    progress(reached, reached if stream.live else stream.frames, block)

    @classmethod
    def _metadata(cls) -> dict[str, object]:
        from comfy.cli_args import args

        if args.disable_metadata:
            return {}
        sent = cls.hidden.extra_pnginfo
        found = dict(sent) if isinstance(sent, dict) else {}
        if cls.hidden.prompt is not None:
            found["prompt"] = cls.hidden.prompt
        return found


class AvatarStreamToFrames(Node):
    """Gives the stream as images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarStreamToFrames",
            search_aliases=["frames", "images", "video combine", "image batch"],
            display_name="Avatar Stream to Frames",
            description=(
                "Gives the stream's frames as IMAGE with the sound that belongs to them. As 'stream', frames are "
                "made one block at a time while VideoHelperSuite's Video Combine writes them, so any length fits "
                "in memory; as 'batch', all frames are made first, for nodes that need an ordinary image batch."
            ),
            inputs=[
                AvatarStreamType.Input("stream", tooltip="The stream to generate."),
                io.Combo.Input(
                    "frames",
                    options=["batch", "stream"],
                    tooltip=(
                        "stream: for VideoHelperSuite's Video Combine, also behind nodes that treat every picture by "
                        "itself (crop, resize, invert, flip). batch: for every other image node."
                    ),
                ),
                _frame_rate(),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
                io.Int.Output(display_name="frame count"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, stream: AvatarStream, frames: str, fps: float = 0.0) -> io.NodeOutput:
        stream = at_frame_rate(stream, fps or stream.fps)
        # A node behind that reads the frames shows its own result; the previews stay here.
        images = FrameStream(stream, Progress(cls.hidden.unique_id))
        if frames == "batch":
            needed = stream.frames * stream.width * stream.height * FLOAT_FRAME_BYTES
            free = psutil.virtual_memory().available
            if needed > free:
                raise MemoryError(
                    f"Choose 'stream', or use Avatar Stream to Video: {stream.frames} frames of {stream.width}x"
                    f"{stream.height} need {needed / 1e9:.1f} GB as a batch, {free / 1e9:.1f} GB are free."
                )
            images = images.to_tensor()
        return io.NodeOutput(images, stream.audio, float(stream.fps), stream.frames)

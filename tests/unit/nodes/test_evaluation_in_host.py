"""The measuring nodes with the host's types: what they give, and what they refuse."""

from __future__ import annotations

from tests.unit.evaluation.videos import FACE, SIDE, faces, syllables, voice, write_video
from tests.unit.in_host import run_in_host

PROGRAM = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util
import json, torch
import nodes, server
sys.path.insert(0, {root!r})
import tools.pack
from comfy_api.latest import InputImpl
from avatar.nodes.evaluation import AvatarMeasureStream, AvatarMeasureVideo, HostDino

server.PromptServer.instance = None
video = InputImpl.VideoFromFile({video!r})
portrait = next(iter(video.get_components().images))[None]
box = {box!r}
told, charts = AvatarMeasureVideo.execute(
    video=video, reference=portrait, face=box, blocks="12,4,9"
).args
told = json.loads(told)
assert told["scores"]["sync offset"]["value"] == 0, told
assert "block border" in told["scores"] and "portrait distance" in told["scores"], told
assert "to dinov2" in told["skipped"]["Dino-S"], told
bare = json.loads(AvatarMeasureVideo.execute(video=video).args[0])["skipped"]
assert set(told["skipped"]) < set(bare) and "into blocks" in bare["block border"], bare
assert not [text for text in bare.values() if "Give " in text or "--" in text], bare  # the command line's words
assert charts.ndim == 4 and charts.shape[-1] == 3 and 0 <= charts.min() < charts.max() <= 1

class Encoder:
    def encode_image(self, pictures):
        return {{"last_hidden_state": pictures.mean((1, 2))[:, None]}}

class Dinov2Model:
    pass

encoder = Encoder()
encoder.model = Dinov2Model()
told = json.loads(
    AvatarMeasureVideo.execute(video=video, reference=portrait, dinov2=encoder, face=box).args[0]
)
assert told["scores"]["Dino-S"]["value"] > 0.99, told
encoder.model = torch.nn.Linear(1, 1)
for values, sentence in (
    ({{"dinov2": encoder}}, "Load a DINOv2 file"),
    ({{"face": "a,b"}}, "Write face as numbers"),
    ({{"face": "0,0,2,1"}}, "in parts of the frame"),
    ({{"blocks": "12,5,9"}}, "do not fit"),
):
    try:
        AvatarMeasureVideo.execute(video=video, **values)
    except ValueError as error:
        assert sentence in str(error), error
    else:
        raise AssertionError(values)
print("fine")
"""


def test_measure_video_in_a_host(tmp_path):
    level = syllables(4, 1)
    video = write_video(tmp_path / "a.mp4", faces(level), voice(level))
    run_in_host(PROGRAM, video=str(video), box=",".join(str(side / SIDE) for side in FACE))

"""Every input of every node with values that it cannot take: refused by name, as soon as they are known."""

from __future__ import annotations

from tests.unit.in_host import run_in_host

NODES = """
import sys
sys.path.append({root!r})
import comfy.options
comfy.options.enable_args_parsing()
sys.argv = ["main.py", "--cpu", "--base-directory", {base!r}]
import comfy.cli_args
import utils.install_util  # before other packages bring a module of this name
import asyncio, math, os, re, torch
import execution, folder_paths, nodes, server
import tools.pack
from comfy_api.latest import io
server.PromptServer.instance = None
for folder in ("input", "output", "temp", "custom_nodes"):
    os.makedirs(os.path.join({base!r}, folder), exist_ok=True)
from avatar.nodes import LiveAvatarExtension

listed = asyncio.run(LiveAvatarExtension().get_node_list())
NODES = {{node.GET_SCHEMA().node_id: node for node in listed}}
nodes.NODE_CLASS_MAPPINGS.update(NODES)
from comfy_extras.nodes_primitive import Int
nodes.NODE_CLASS_MAPPINGS["PrimitiveInt"] = Int
Int.GET_SCHEMA()
NAN, INFINITE = float("nan"), float("inf")

def queued(node, values):
    \"\"\"What the host says of a workflow with this one node; None where it takes it.\"\"\"
    prompt = {{"1": {{"class_type": node, "inputs": dict(values)}}}}
    try:
        valid, errors, _ = asyncio.run(execution.validate_inputs("prompt", prompt, "1", {{}}))
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    reasons = [error for error in errors if error["type"] != "required_input_missing"]
    assert len(reasons) < 2, reasons
    return None if valid or not reasons else reasons[0]["message"] + ": " + reasons[0]["details"]

def run(node, values):
    \"\"\"What the node says of values that came through links; None where it gets to work with them.\"\"\"
    cls = NODES[node].PREPARE_CLASS_CLONE({{}})
    links = {{item.id: None for item in cls.define_schema().inputs if not hasattr(item, "default")}}
    try:
        cls.execute(**links, **values)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    except Exception:  # it has nothing to work with here
        return None
    return None

def refused(node, name, value, how):
    said = how(node, good(node) | {{name: value}})
    assert said is not None, (node, name, value, how.__name__)
    assert name in said and "\\n" not in said and len(said) < 1200, (node, name, value, said)
    said.encode()  # and it can be sent

def good(node):
    found = {{}}
    for item in NODES[node].define_schema().inputs:
        if isinstance(item, io.Combo.Input):
            found[item.id] = item.default or (item.options or ["nothing"])[0]
        elif hasattr(item, "default"):
            found[item.id] = "a text" if isinstance(item, io.String.Input) and item.default is None else item.default
    if node == "AvatarSendSpeech":  # its default is the beginning of an address
        found["address"] += "a" * 20
    return found
"""

VALUES = (
    NODES
    + """
CHOICES = [
    "", " ", "nonsense", "AUTO", "/etc", "../..", "..", ".", "auto\\0", "<img src=x onerror=alert(1)>", "\\ud800",
    "x" * 10_000, 0, -1, True, NAN, {{}}, {{"a": 1}},
]
for node in NODES:
    for item in NODES[node].define_schema().inputs:
        if isinstance(item, io.Combo.Input) and not item.upload:
            for value in CHOICES:
                refused(node, item.id, value, queued)
                refused(node, item.id, value, run)
            for value in (["a", "list"], None):
                refused(node, item.id, value, run)
        elif isinstance(item, io.Combo.Input):
            for value in (["a", "list"], None, 0, NAN, {{}}):
                refused(node, item.id, value, run)
        elif isinstance(item, (io.Int.Input, io.Float.Input)):
            assert item.min is not None and item.max is not None, (node, item.id)
            beyond = [item.min - 1, item.max * 2 + 1, -10**30, 10**30, NAN, INFINITE, -INFINITE]
            for value in [*beyond, None, "x", "", {{}}]:
                refused(node, item.id, value, queued)
                refused(node, item.id, value, run)
            refused(node, item.id, "1", run)
            if isinstance(item, io.Int.Input):
                refused(node, item.id, 1.5, run)
        elif isinstance(item, io.String.Input):
            for value in ["a\\0b", "\\x1b[2J", "\\x7f", "\\ud800", *([] if item.multiline else ["a\\nb"])]:
                refused(node, item.id, value, queued)
                refused(node, item.id, value, run)
            refused(node, item.id, None, run)
        elif isinstance(item, io.Boolean.Input):
            for value in ("false", "", None, NAN, [True], {{}}):
                refused(node, item.id, value, run)
        if hasattr(item, "default"):
            linked = {{"2": {{"class_type": "PrimitiveInt", "inputs": {{"value": 1}}}}}}
            prompt = {{"1": {{"class_type": node, "inputs": good(node) | {{item.id: ["2", 0]}}}}}} | linked
            said = asyncio.run(execution.validate_inputs("prompt", prompt, "1", {{}}))[1]
            # The type may be wrong for this input; its value is not known yet.
            assert {{error["type"] for error in said}} <= {{"required_input_missing", "return_type_mismatch"}}, said
    # What the page would send is taken, if the lists are not empty.
    values = good(node)
    for name in ("filename_prefix", "audio", "file"):
        if name in values:
            del values[name]
    assert queued(node, values) is None, (node, queued(node, values))

for seed in (2**32, 2**63, 2**64 - 1):
    for node in ("LiveAvatarSampler", "PersonaLiveAnimate"):
        assert queued(node, good(node) | {{"seed": seed}}) is None

# Lists of choices are read from the disk, once for each execution.
for node, cls in NODES.items():
    values, counted, define = good(node), [], cls.define_schema.__func__
    cls.define_schema = classmethod(lambda own: counted.append(1) or define(own))
    run(node, values)
    cls.define_schema = classmethod(define)
    # One of them by `run` itself, and one more where nothing comes through a link.
    assert len(counted) <= 3, (node, len(counted))

refused("LiveAvatarSampler", "frames_per_clip", 50, queued)
refused("LiveAvatarSampler", "sink_distance", 3, queued)
refused("PersonaLiveAnimate", "steps", 6, queued)
print("fine")
"""
)

NAMES = (
    NODES
    + """
from pathlib import Path
from avatar.nodes.output_names import place_for
output = folder_paths.get_output_directory()
Path(output, "taken").write_text("a file")

BAD = [
    "<img src=x onerror=alert(1)>", "video/<b>", "a>b", 'a"b', "a|b", "what?", "*", "12:30", "", " ", ".", "..", "/",
    "video/..", "a" * 250, "a/" * 300 + "b", "é" * 120, "folder/" + "a" * 201, "%<img>%", "a\\0b",
    "../escaped", "a/../../b",
    "../../etc/x",
]
GOOD = [
    "video/LiveAvatar", "a b", "Ünï/çødé", "動画/声", "100%", "%year%-%month%", "%date:yyyy-MM-dd hh:mm%",
    "%Sampler.seed%_x", "a/./b", "a//b", "folder/a" * 10, "it's & that; $x",
]
for node in ("AvatarStreamToVideo", "PersonaLiveSaveMotion"):
    for prefix in BAD:
        refused(node, "filename_prefix", prefix, queued)
        refused(node, "filename_prefix", prefix, run)
    for prefix in GOOD:
        assert queued(node, good(node) | {{"filename_prefix": prefix}}) is None, prefix

for prefix in ("../escaped", "/etc/escaped", "a/../../b", "taken/video", "taken/more/video"):
    try:
        place_for(prefix, output)
    except (ValueError, OSError) as error:
        assert "filename_prefix" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError(prefix)
folder, name, number, subfolder = place_for("%year%/clip", output)
assert re.fullmatch("[0-9]{{4}}", subfolder) and folder.is_dir() and (name, number) == ("clip", 1)

for value in ("short", "has spaces in it, so no", "a" * 129, "<img src=x onerror=1>", "ünïcödé-ünïcödé-ü"):
    for how in (queued, run):
        refused("LiveAvatarLiveSpeech", "id", value, how)
for value in ("../secret.wav", "/etc/passwd", "a/../../b.wav", "../../x.wav [temp]"):
    for how in (queued, run):
        said = how("LiveAvatarLiveSpeech", good("LiveAvatarLiveSpeech") | {{"file": value}})
        assert said and "inside" in said, (value, said)
        said = how("LiveAvatarLoadSpeechFile", {{"audio": value}})
        assert said and "inside" in said, (value, said)
for value in ("gone.wav", "", ".", "a" * 300 + ".wav", "a\\0b.wav", "\\ud800.wav", "<img src=x>.wav"):
    try:
        NODES["LiveAvatarLoadSpeechFile"].check({{"audio": value}})
    except (FileNotFoundError, ValueError) as error:
        assert "\\n" not in str(error)
        str(error).encode()
    else:
        raise AssertionError(value)
print("fine")
"""
)


def test_what_an_input_cannot_take_is_refused_by_name(tmp_path):
    run_in_host(VALUES, base=str(tmp_path))


def test_names_that_no_file_can_have_are_refused_by_name(tmp_path):
    run_in_host(NAMES, base=str(tmp_path))


TWICE = (
    NODES
    + """
import importlib.util
from pathlib import Path
other = Path({base!r}, "custom_nodes", "a second copy")
other.symlink_to({root!r})
place = dict(submodule_search_locations=[str(other)])
spec = importlib.util.spec_from_file_location("a_second_copy", other / "__init__.py", **place)
second = sys.modules["a_second_copy"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(second)
try:
    asyncio.run(asyncio.run(second.comfy_entrypoint()).get_node_list())
except RuntimeError as error:
    assert str(other) in str(error) and {root!r} in str(error) and "installed twice" in str(error), error
else:
    raise AssertionError("The second copy was taken.")
assert asyncio.run(LiveAvatarExtension().get_node_list()) == listed  # the first is still the one
print("fine")
"""
)


def test_a_second_copy_of_the_pack_is_refused_by_its_folder(tmp_path):
    run_in_host(TWICE, base=str(tmp_path))


LINKS = (
    NODES
    + """
sys.path.append({root!r} + "/tests/soak")  # hosts have tests of their own
from odd_pack.objects import odd_objects
from avatar.nodes.links import KINDS, check_links

FINE = {{  # what other packs may give, and what nodes look at by themselves
    "IMAGE": {{
        "NaN", "infinite", "one NaN", "huge values", "1x1", "20000x1", "1x20000", "20000x40", "1 channel",
        "4 channels", "float16", "float64", "three pictures", "with gradient", "black",
    }},
    "MASK": {{
        "NaN", "empty", "everything", "negative", "huge values", "2 dimensions", "4 dimensions", "channels last",
        "1x1", "20000x1", "truth values", "bytes", "another size", "seven masks",
    }},
    "VIDEO": {{"a video that cannot be read"}},
    "CONDITIONING": {{"an empty list", "another width", "NaN", "no words", "2 dimensions"}},
}}
seen = set()
for node in NODES.values():
    for item in node.define_schema().inputs:
        types = item.get_io_type().split(",")
        if hasattr(item, "default") or types == ["AUDIO"]:
            continue
        assert set(types) <= set(KINDS), (item.id, types)
        seen |= set(types)
        fine = set().union(*(FINE.get(type_, ()) for type_ in types))
        for name, make in odd_objects(",".join(types)).items():
            if name == "None":
                continue
            try:
                check_links([item], {{item.id: make()}})
            except ValueError as error:
                said = str(error)
                assert name not in fine and said.startswith("Connect ") and item.id in said, (name, said)
                assert len(said) < 300 and "\\n" not in said, said
            else:
                assert name in fine, (item.id, types, name)
assert seen == set(KINDS), seen ^ set(KINDS)

# Nothing behind an optional link is as if there were none.
prompt = [[torch.zeros(1, 4, 8), {{}}]]
(mood,) = NODES["LiveAvatarMood"].execute(positive=prompt, name="happy", times="", moods=None).args[0]
assert mood.name == "happy"
for node, name in {{"LiveAvatarSampler": "model", "AvatarStreamToVideo": "stream", "DittoAnimate": "ditto"}}.items():
    said = run(node, good(node))
    assert said == f"Connect something else to {{name}}: nothing comes through its link.", (node, said)
print("fine")
"""
)


def test_what_does_not_belong_behind_a_link_is_refused_by_the_inputs_name(tmp_path):
    run_in_host(LINKS, base=str(tmp_path))

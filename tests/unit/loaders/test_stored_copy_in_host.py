"""The float8 copy on the disk, inside a real ComfyUI (a process of its own): the same weights bit for bit, or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.in_host import run_in_host
from tools.tiny_checkpoint import make

START = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import os, shutil, types
from pathlib import Path
import comfy.model_management, folder_paths, torch
sys.path.insert(0, {root!r})
import tools.pack
from avatar.loaders.liveavatar import fp8_copy as copies, stored_copy as stored
from avatar.loaders.liveavatar.host_model import HostModel
from avatar.loaders.liveavatar.transformer import load_host_model
from avatar.loaders.lora import apply_to_host, read_lora
from avatar.media.file_lock import lock

torch.set_num_threads(1)
# A CPU multiplies no float8 matrices; everything up to there is what a GPU does.
copies.require_fp8 = lambda device: None
stored.multiplies_fp8 = lambda device: True
folder, models = Path({folder!r}), Path({models!r})
folder_paths.add_model_folder_path("liveavatar_float8", str(models))
base, lora = folder / "tiny-wide", folder / "tiny-lora/liveavatar.safetensors"
said = []

def loaded(strength=1.0, keep=True):
    model = load_host_model(base, torch.bfloat16, lora, strength)
    told = stored.keep_on_disk(model, base, lora, strength) if keep else ""
    return model, told

def copied(model, waiting=1, report=said.append):
    said.clear()
    return copies.fp8_copy(HostModel.of(model), waiting, report)

def files():
    return sorted(path.name for path in models.glob("*"))

def conversions():
    return sum("Converting" in text for text in said)

def same(copy, expected):
    found, expected = copy.transformer.state_dict(), expected.transformer.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        one = found[name]
        assert (one.dtype, one.shape, one.device) == (tensor.dtype, tensor.shape, tensor.device), name
        assert torch.equal(one.view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8)), name

def untouchable(model):
    # The host's model must not be asked for anything but its description.
    def refuse(*_, **__):
        raise AssertionError("the host's model was used")
    for module in model.model.diffusion_model.modules():
        if not list(module.children()):
            module.forward = refuse
    model.patch_model = model.load = model.partially_load = refuse

"""

PROGRAM = (
    START
    + """
with torch.inference_mode():
    model, _ = loaded(keep=False)
    plain = copied(model)
    assert files() == [] and plain.unwritten is None and conversions() == 6

    model, told = loaded()
    name = "tiny-wide, liveavatar 1, bfloat16.float8.safetensors"
    assert told == f"The first video writes {{name}}, 0.0 GB.", told
    made = copied(model)
    assert files() == [name] and made.note == "" and conversions() == 6
    assert said[-1] == "Writing the float8 copy: waiting for the disk"
    same(made, plain)

    for waiting in (1, 0, 3, 5):
        model, told = loaded()
        assert told.startswith(f"Float8 copy on the disk: {{name}}, 0.0"), told
        untouchable(model)
        read = copied(model, waiting)
        assert conversions() == 0 and said[-1].startswith("Reading the float8 copy: 0.0 of"), said
        assert len(read.waiting) == waiting and read.unwritten is None and read.note == ""
        for one in read.waiting:
            begin = one.memory.bytes.data_ptr()
            ends = begin + one.memory.bytes.nbytes
            assert all(begin <= t.data_ptr() < ends for t in one.block.buffers()), "not in locked memory"
        same(read, plain)
        read.deal(2)
        same(read, plain)
        assert copied(model, 2) is read and said == []

    # Another strength has a file of its own; that of another one is never used.
    model, told = loaded(0.5)
    other = name.replace(" 1,", " 0.5,")
    assert told == f"The first video writes {{other}}, 0.0 GB.", told
    half = copied(model)
    assert conversions() == 6 and files() == sorted([name, other])
    weight = "blocks.0.up.weight"
    assert not torch.equal(*(c.transformer.state_dict()[weight].float() for c in (half, plain)))
    assert loaded(0.5)[1].endswith("2 copies in models/liveavatar_float8 take 0.0 GB.")

    # A LoRA more is another model, which belongs to no file.
    model, _ = loaded()
    more = apply_to_host(model, read_lora(lora), 0.25)
    assert stored.stored_copy(HostModel.of(model)) and stored.stored_copy(HostModel.of(more)) is None
    copied(more)
    assert conversions() == 6 and files() == sorted([name, other])

    # Files of the host's loaders are not known.
    assert stored.stored_copy(HostModel.of(loaded(keep=False)[0])) is None

    assert stored.delete_copies().startswith("2 float8 copies deleted, 0.0 GB.")
    assert files() == []
    assert copied(loaded()[0]) and conversions() == 6 and files() == [name]

    # Names as long as a file system takes.
    base = shutil.copytree(base, base.with_name("长" * 80))
    lora = Path(shutil.copy(lora, lora.with_name("长" * 80 + ".safetensors")))
    assert copied(loaded()[0]).note == "" and conversions() == 6
    assert copied(loaded()[0]) and conversions() == 0
print("fine")
"""
)

FAULTS = (
    START
    + """
with torch.inference_mode():
    plain = copied(loaded(keep=False)[0])
    copied(loaded()[0])
    (path,) = models.glob("*")
    sound = path.read_bytes()

    model, _ = loaded()
    def again(**options):
        # As in another process, which has no copy in memory.
        copies._copies.clear()
        return copied(model, **options)

    def anew(note):
        copy = again()
        assert conversions() == 6 and copy.note == note, (copy.note, said)
        same(copy, plain)
        assert files() == [path.name]
        assert again().note == "" and conversions() == 0, "the new one is used"

    damaged = f"The float8 copy was made anew: {{path.name}} is damaged."
    altered = bytearray(sound)
    altered[len(sound) // 2] ^= 1
    header = sound.replace(b'"BF16"', b'"F32" ', 1)
    swapped = sound.replace(b'"__metadata__"', b'"__metadatA__"', 1)
    cases = [bytes(altered), sound[:-1], sound[: len(sound) // 2], sound + b"0", b"", b"x" * 100, header, swapped]
    deep = b"[" * 200_000
    cases.append(len(deep).to_bytes(8, "little") + deep)
    for content in cases:
        path.write_bytes(content)
        anew(damaged)

    other = "was made from other files, or by another version"
    for step in (1, -1):
        stored.FORMAT += step
        model, told = loaded()
        assert told == f"{{path.name}} {{other}}; the first video replaces it."
        anew(f"The float8 copy was made anew: {{path.name}} {{other}}.")

    # A source that was written anew in its place, with another value far from both ends.
    shard = sorted(base.glob("diffusion_pytorch_model*.safetensors"))[0]
    weights = bytearray(shard.read_bytes())
    weights[len(weights) // 2 : len(weights) // 2 + 2] = b"\\0\\0"
    shard.write_bytes(weights)
    plain = copied(loaded(keep=False)[0])
    model, told = loaded()
    assert other in told
    anew(f"The float8 copy was made anew: {{path.name}} {{other}}.")

    # No space: the video is made, and the sentence says why nothing is kept.
    path.unlink()
    usage, shutil.disk_usage = shutil.disk_usage, lambda where: types.SimpleNamespace(free=10**9)
    why = "it takes 0.0 GB, and 1.0 GB of disk space are free."
    model, told = loaded()
    assert told == f"The float8 copy cannot be kept on the disk: {{why}}"
    copy = again()
    assert copy.note == f"The float8 copy is not kept on the disk: {{why}}"
    assert copy.unwritten is None and files() == []
    shutil.disk_usage = usage

    # The disk fails in the middle.
    write = stored.write_tensors
    def fail(file, *rest):
        file.write(b"half")
        raise OSError(28, "No space left on device")
    stored.write_tensors = fail
    copy = again()
    assert copy.note == "The float8 copy is not kept on the disk: No space left on device." and files() == []
    same(copy, plain)
    stored.write_tensors = write

    # An interruption leaves no file; the next video writes it, and converts nothing again.
    class Interrupted(Exception):
        pass
    def stop(text):
        said.append(text)
        if "Writing" in text:
            raise Interrupted
    try:
        again(report=stop)
        raise AssertionError("went on")
    except Interrupted:
        assert files() == [] and conversions() == 6
    copied(model)
    assert files() == [path.name] and conversions() == 0
    # One while it is read leaves the file as it is.
    def stop(text):
        raise Interrupted
    try:
        again(report=stop)
        raise AssertionError("went on")
    except Interrupted:
        assert files() == [path.name]
    same(copied(model), plain)
    assert conversions() == 0

    # Two writers: the second one does without; what one that has died left behind goes.
    path.unlink()
    draft = path.with_name(path.name + ".abcd.new")
    with draft.open("wb") as file:
        file.write(b"half a copy")
        file.flush()
        assert lock(file)
        copy = again()
        assert copy.note == "The float8 copy is not kept on the disk: another ComfyUI is writing it."
        assert files() == [draft.name]
        assert stored.delete_copies() == "0 float8 copies deleted, 0.0 GB." and draft.exists()
    again()
    assert files() == [path.name]
    draft.write_bytes(b"half a copy")
    stored.delete_copies()
    assert files() == []
print("fine")
"""
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("checkpoint"), host_layout=True)


@pytest.mark.parametrize("program", [PROGRAM, FAULTS], ids=["bit for bit", "what does not fit is made anew"])
def test_the_copy_on_the_disk_is_the_one_made_in_memory(checkpoint, tmp_path, program):
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")  # its files are altered
    run_in_host(program, folder=str(folder), models=str(tmp_path / "copies"))

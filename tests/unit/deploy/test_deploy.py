"""What can be known of an image and its services without building them."""

from __future__ import annotations

import ast
import http.server
import importlib.util
import json
import re
import threading
from pathlib import Path

import pytest
import yaml

from tools.environment import ROOT

DEPLOY = ROOT / "deploy"
HEALTH = "/liveavatar/health"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each a word and the rest of its line; continued lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line.strip()]


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compose() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_dockerfile_has_known_instructions_and_begins_with_its_image():
    known = {"FROM", "ARG", "RUN", "ENV", "COPY", "USER", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD"}
    names = [name for name, _ in instructions()]
    assert names[0] == "FROM" and set(names) <= known
    assert all(re.search(r":[\w.-]*\d", image) for image in of("FROM")), "pinned by a version"


def test_everything_that_is_copied_exists_and_is_not_ignored():
    ignored = [
        line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    for line in of("COPY"):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not any(Path(source).parts[:1] == (entry,) for entry in ignored), source


def test_the_image_leaves_out_nothing_that_the_pack_imports():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    code = [path for path in ROOT.glob("*/") if list(path.rglob("*.py")) and not path.name.startswith(".")]
    left_out = {path.name for path in code if path.name in ignored}
    assert left_out == {"benchmarks", "tests", "training"}


def test_versions_are_pinned_and_everything_runs_as_an_ordinary_user():
    runs = " ".join(of("RUN"))
    assert "--branch" in runs and "v${COMFYUI_VERSION}" in runs
    for name in re.findall(r"\$\{(\w+)\}", runs):
        assert any(re.fullmatch(rf"{name}=\S+", arg) for arg in of("ARG")), name
    names = [name for name, _ in instructions()]
    (user,) = of("USER")
    assert user not in ("root", "0") and f"--uid 10001 {user}" in runs
    assert names.index("USER") < names.index("CMD") and "RUN" not in names[names.index("USER") :]


def test_commands_are_lists_that_name_files_of_the_image():
    (command,) = of("CMD")
    (check,) = of("HEALTHCHECK")
    started = json.loads(command)
    assert started[:2] == ["python", "main.py"]
    checked = json.loads(check.split("CMD ", 1)[1])
    assert any(line.endswith(checked[1]) for line in of("COPY"))
    data = [started[place + 1] for place, word in enumerate(started) if word.endswith("-directory")]
    database = started[started.index("--database-url") + 1].removeprefix("sqlite:///")
    (volumes,) = of("VOLUME")
    for folder in (*data, database):
        assert any(folder.startswith(volume) for volume in json.loads(volumes)), folder
    written = {f"--{name}-directory" for name in ("input", "output", "temp", "user")}
    assert written <= set(started), "the user may not write into ComfyUI's own folder"
    assert started[started.index("--port") + 1] in of("EXPOSE")


@pytest.mark.parametrize(("answer", "well"), [(200, 0), (503, 0), (404, 1), (500, 1), (401, 1)])
def test_the_health_check_knows_a_busy_server_from_a_broken_one(monkeypatch, capsys, answer, well):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("LIVEAVATAR_HTTP_KEY", "secret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    check = load("healthcheck")
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert check.main(f"http://127.0.0.1:{server.server_port}{HEALTH}") == well
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert seen == [(HEALTH, "Bearer secret")] and check.URL.endswith(f":8188{HEALTH}")
    assert (str(answer) in capsys.readouterr().err) == bool(well)


def test_the_health_check_fails_where_nobody_answers():
    assert load("healthcheck").main("http://127.0.0.1:9/") == 1


def test_compose_publishes_to_this_machine_only_and_all_volumes_are_declared():
    file = compose()
    services = file["services"]
    assert set(services) == {"comfyui", "mind", "voice"}
    for name, service in services.items():
        assert ("build" in service) or service["image"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port
        for volume in service["volumes"]:
            assert volume.split(":")[0] in file["volumes"], volume
    assert {name for name, service in services.items() if service.get("profiles")} == {"mind", "voice"}
    assert "ports" not in services["mind"] and "ports" not in services["voice"]
    mounted = {volume.split(":", 1)[1] for volume in services["comfyui"]["volumes"]}
    (volumes,) = of("VOLUME")
    assert mounted == set(json.loads(volumes))


def test_compose_builds_what_is_there():
    build = compose()["services"]["comfyui"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT and (context / build["dockerfile"]).is_file()


def test_compose_is_of_its_schema():
    known = {
        *(
            "build",
            "image",
            "init",
            "restart",
            "ports",
            "environment",
            "volumes",
            "ulimits",
            "shm_size",
            "deploy",
        ),
        *("profiles", "command"),
    }
    file = compose()
    assert set(file) == {"name", "services", "volumes"}
    for service in file["services"].values():
        assert set(service) <= known
        assert all(isinstance(value, str) for value in service.get("environment", {}).values())
        assert all(isinstance(word, str) for word in service.get("command", []))
    (device,) = file["services"]["comfyui"]["deploy"]["resources"]["reservations"]["devices"]
    assert set(device) == {"driver", "count", "capabilities"} and device["capabilities"] == ["gpu"]


def test_no_file_has_a_key_in_it():
    secret = re.compile(r"(\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*)\s*[:=]\s*(\S+)")
    found = [pair for path in DEPLOY.glob("*.*") for pair in secret.findall(path.read_text())]
    assert ("LIVEAVATAR_HTTP_KEY", "${LIVEAVATAR_HTTP_KEY:-}") in found
    assert all(value == f"${{{name}:-}}" for name, value in found), found


def test_the_modal_app_is_python_and_uses_the_dockerfile():
    tree = ast.parse((DEPLOY / "modal_app.py").read_text())
    assert {node.names[0].name for node in tree.body if isinstance(node, ast.Import)} == {
        "os",
        "subprocess",
        "modal",
    }
    pytest.importorskip("modal")
    app = load("modal_app")
    assert type(app.comfyui).__name__ == "Function"


def test_the_cloud_run_service_asks_for_a_gpu_and_mounts_the_weights():
    service = yaml.safe_load((DEPLOY / "cloudrun.yaml").read_text())
    spec = service["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in spec["volumes"]
    }
    assert container["ports"][0]["containerPort"] == container["startupProbe"]["httpGet"]["port"] == 8188


def test_what_serves_deployment_is_left_out_of_the_registry_package():
    assert "deploy/" in (ROOT / ".comfyignore").read_text().splitlines()

"""One ComfyUI and one browser for all tests of this folder."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tools.chromium import MISSING, find_chromium
from tools.comfyui import newest_page
from tools.environment import STATE

from .browser import Browser
from .client import Host
from .media import make_inputs
from .models import install_tiny_models, write_wav2vec2_large

VUE_NODES = "/settings/Comfy.VueNodes.Enabled"  # the setting of Nodes 2.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than ten seconds (leave out with -m 'not slow')")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a host or a browser by the fixtures that it asks for."""
    for item in items:
        for name in ("host", "browser"):
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(name)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The running host; its log is copied to ``.run/host-tests*.log`` at the end, one for each process of tests."""
    running = Host(tmp_path_factory.mktemp("host"))
    try:
        with running:
            yield running
    finally:
        STATE.mkdir(exist_ok=True)
        process = os.environ.get("PYTEST_XDIST_WORKER", "")
        (STATE / f"host-tests{process and f'-{process}'}.log").write_text(running.log(), encoding="utf-8")


@pytest.fixture(scope="session")
def tiny_checkpoint(host: Host) -> Path:
    """The folder of the tiny checkpoint in the host's models; ``tiny-wide`` and single files are there as well."""
    return install_tiny_models(host.models_dir)


@pytest.fixture(scope="session")
def wav2vec2_large(host: Host) -> Path:
    """A random audio encoder for the host's own loader, which knows no small one."""
    path = host.models_dir / "audio_encoders" / "random_wav2vec2_large.safetensors"
    write_wav2vec2_large(path)
    return path


@pytest.fixture(scope="session")
def ready(host: Host, tiny_checkpoint: Path) -> Host:
    """The host with the tiny models and with every input file that the shipped workflows name."""
    make_inputs(host.input_dir)
    return host


@pytest.fixture(scope="session")
def browser(host: Host) -> Iterator[Browser]:
    """A headless browser; without one its tests are skipped here and fail where CI=true."""
    program = find_chromium()
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
    with Browser(program, host.url) as running:
        yield running


@pytest.fixture(scope="session")
def host_with_newest_page(ready: Host) -> Iterator[Host]:
    """A second host with the same files, which serves the newest page in place of its own."""
    if not newest_page().is_dir():
        told = f"{newest_page()} is missing: run.py test fetches it."
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(told)
    with Host(ready.base, newest_page()) as running:
        yield running


class Site(NamedTuple):
    """A page of ComfyUI in one of its two renderers, the host that serves it, and a browser at it."""

    host: Host
    browser: Browser
    nodes_2: bool


IN_TWO_SITES = pytest.mark.parametrize(
    "site", [("own", "canvas"), ("newest", "nodes2")], ids="-page-".join, indirect=True
)
"""For tests of what depends on the age of a page and hardly on its renderer."""


@pytest.fixture(
    params=[(page, renderer) for page in ("own", "newest") for renderer in ("canvas", "nodes2")],
    ids="-page-".join,
)
def site(request: pytest.FixtureRequest, ready: Host, browser: Browser) -> Iterator[Site]:
    """Every page in every renderer: for tests of what the pack adds to pages."""
    page, renderer = request.param
    host = ready if page == "own" else request.getfixturevalue("host_with_newest_page")
    at_it = copy.copy(browser)
    at_it.url = host.url
    host.post(VUE_NODES, renderer == "nodes2")
    yield Site(host, at_it, renderer == "nodes2")
    host.post(VUE_NODES, False)
    host.interrupt()

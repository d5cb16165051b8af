"""Settings of every test: the pack as the package ``avatar``, one torch thread, fixed random numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tools.pack  # noqa: F401 - registers the package ``avatar``

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that need a host come first: they take longest, and several processes share the files in this order."""
    items.sort(key=lambda item: HERE / "host" not in item.path.parents)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """The tensors of the tests are tiny: more threads only make them slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def voice() -> Any:
    """`tools.small_models.Voice`, where espeak-ng is installed."""
    from tools.small_models import Voice

    try:
        return Voice()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Random numbers that do not depend on which tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_event_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let tests without a browser use asyncio: once one was started, playwright's loop counts as running here."""
    kept = None if "browser" in request.fixturenames else asyncio._get_running_loop()
    if kept is not None:
        asyncio._set_running_loop(None)
    yield
    if kept is not None:
        asyncio._set_running_loop(kept)

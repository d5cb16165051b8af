"""ComfyUI's page in a headless Chromium, used the way a person uses it: drop a file, press Run, look."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tools.connection import HostError
from tools.environment import STATE

SCREENSHOTS = STATE / "screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A microphone that beeps, and no question whether it may be used.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

DROP = """
([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "application/json" }));
    const canvas = document.querySelector("#graph-canvas");
    const area = canvas.getBoundingClientRect();
    const at = { clientX: area.x + area.width / 2, clientY: area.y + area.height / 2 };
    for (const kind of ["dragenter", "dragover", "drop"])
        canvas.dispatchEvent(
            new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: transfer, ...at }));
}
"""

WATCH = """
() => {
    window.outcome = null;
    for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
        window.app.api.addEventListener(kind, (event) => (window.outcome ??= { kind, detail: event.detail }),
            { once: true });
}
"""


class Browser:
    """A browser at the page of a host; a context manager."""

    def __init__(self, program: Path, url: str):
        self.url = url
        self._program = program

    def __enter__(self) -> Browser:
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(executable_path=str(self._program), args=FLAGS)
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

    @contextmanager
    def page_with_graph(self, needs: str = "SaveImage") -> Iterator[Page]:
        """A fresh page whose graph editor is ready and knows the node type ``needs``.

        ``page.complaints`` (a list) collects the errors that the page reports, uncaught exceptions and console
        errors, and where they come from. The host causes some itself; ours name ``ComfyUI-LiveAvatar``.
        """
        context = self._browser.new_context(viewport={"width": 1600, "height": 1000})
        try:
            context.add_init_script(
                "localStorage.setItem('vueNodesBannerDismissed', 'true')"
            )  # an advertisement
            page = context.new_page()
            page.complaints = []
            page.on("pageerror", lambda error: page.complaints.append(error.stack or str(error)))
            page.on(
                "console",
                lambda line: page.complaints.append(complaint(line)) if line.type == "error" else None,
            )
            page.goto(self.url)
            wait_ready(page, needs)
            yield page
        finally:
            context.close()


def wait_ready(page: Page, needs: str) -> None:
    """Wait until the graph editor knows the node type ``needs`` and the page takes clicks."""
    page.wait_for_function(
        "(type) => window.app?.graph && window.LiteGraph?.registered_node_types[type]",
        arg=needs,
        timeout=60_000,
    )
    page.locator('[data-testid="queue-button"]').first.wait_for(timeout=60_000)
    # What lies over a page that is loading fades; newer pages keep it for good when they are disturbed meanwhile.
    page.wait_for_function("() => !document.querySelector('.p-blockui-mask')", timeout=60_000)


def complaint(line: ConsoleMessage) -> str:
    """A console message with the address of the script or file that it is about."""
    return f"{line.text} ({line.location['url']})"


def drop_workflow(page: Page, path: Path) -> list[str]:
    """Drop a workflow file on the canvas; returns the types of the nodes that are in the graph then."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    count = len(workflow["nodes"]) if "nodes" in workflow else len(workflow)
    page.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])
    page.wait_for_function("(count) => window.app.graph.nodes.length === count", arg=count, timeout=20_000)
    return page.evaluate("() => window.app.graph.nodes.map((node) => node.type)")


def queue_and_wait(page: Page, timeout: float = 300.0) -> dict[str, Any]:
    """Press Run and return the detail of ``execution_success``; HostError when it ended in another way.

    A workflow that the host refuses never starts: the host's answer is reported then.
    """
    page.evaluate(WATCH)
    with page.expect_response("**/api/prompt") as answer:
        on_canvas = page.locator('[data-testid="queue-button"]:visible')
        on_form = page.get_by_role("button", name="Run", exact=True).locator("visible=true")
        on_canvas.or_(on_form).first.click()
    if not answer.value.ok:
        raise HostError(f"The host refused the workflow: {answer.value.text()}")
    page.wait_for_function("() => window.outcome", timeout=timeout * 1000)
    outcome = page.evaluate("() => window.outcome")
    if outcome["kind"] != "execution_success":
        detail = outcome["detail"]
        raise HostError(
            f"{detail.get('node_type')} ended with {outcome['kind']}: {detail.get('exception_message')}"
        )
    return outcome["detail"]


def screenshot(page: Page, name: str) -> Path:
    """Save what the page shows as ``.run/screenshots/NAME.png``."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path

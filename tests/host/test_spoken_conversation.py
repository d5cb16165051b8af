"""A conversation from a microphone at the page to scripted services, and back."""

from __future__ import annotations

import json

from .browser import drop_workflow, screenshot
from .test_conversation import script, talk, url  # noqa: F401
from .test_conversation_page import PANEL, Script, hearing, lines, state, visited
from .test_live_player import press_run
from .workflows import change

SHOW_CONVERSATION = """
() => {
    const { graph, canvas } = window.app;
    canvas.centerOnNode(graph.nodes.find(({ type }) => type === "AvatarConversation"));
    canvas.setDirty(true, true);
}
"""


def test_in_a_real_conversation_a_voice_is_heard_answered_and_interrupts(talk, script, browser, tmp_path):  # noqa: F811
    """A microphone that says something for a second, every twelve seconds, and scripted services."""
    script.answers, script.answer = {}, "This is a long answer of many words. " * 8
    change(talk, "AvatarConversation", id="")
    with hearing(browser, tmp_path, seconds=1.0) as browser, visited(browser) as page:
        seen = Script(page)  # which has no part in it
        file = tmp_path / "conversation.json"
        file.write_text(json.dumps(talk))
        drop_workflow(page, file)
        press_run(page)
        page.evaluate(SHOW_CONVERSATION)
        seen.until(lambda: state(page) == "Listening", 120)
        page.get_by_role("button", name="Microphone").click()
        seen.until(lambda: [kind for kind, _ in lines(page)][:2] == ["you", "avatar"], 60)
        seen.until(lambda: state(page) == "Speaking", 60)
        screenshot(page, "conversation-real")
        seen.until(lambda: "avatar cut" in [kind for kind, _ in lines(page)], 60)
        seen.until(lambda: [kind for kind, _ in lines(page)].count("you") > 1, 60)
        assert "turn_end" in page.locator(f"{PANEL} .avatar.cut").first.get_attribute("title")
        page.get_by_role("button", name="End", exact=True).click()
        seen.until(lambda: state(page) == "Ended", 60)

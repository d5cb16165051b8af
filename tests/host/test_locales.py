"""The texts of nodes in eight languages: complete, none left over, and served to pages."""

from __future__ import annotations

import re

import pytest

from tools.make_locales import FOLDER, LANGUAGES, english, paths, read

from .browser import wait_ready
from .conftest import IN_TWO_SITES

# Words that stay as they are in every language: choices of widgets, placeholders, names of files and models.
FIXED = re.compile(r"%[^%]+%|[\w/.-]*models/\w+|\b(?:taew2_1|fp8|bf16|GGUF|\.pth|\.safetensors)\b", re.ASCII)
# The page's translations read these as their own syntax.
SYNTAX = re.compile(r"[{}@|]")
IS_NAMED = """
([title, speech]) => {
    const node = window.LiteGraph.createNode("LiveAvatarSampler");
    const input = node.inputs.find(({ name }) => name === "speech");
    return node.title === title && (input.label ?? input.localized_name) === speech;
}
"""


@pytest.fixture(scope="module")
def wanted(host):
    return english(host.pack_nodes())


def test_english_is_what_the_nodes_say(wanted):
    assert read("en") == wanted, "python -m tools.make_locales writes it"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_and_input_is_translated_and_none_is_left_over(wanted, language):
    found = set(paths(read(language)))
    assert sorted(set(paths(wanted)) - found) == []
    assert sorted(found - set(paths(wanted))) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_keep_what_must_not_be_translated(wanted, language):
    texts = read(language)
    for node, about in wanted.items():
        for name, own in about["inputs"].items():
            translated = texts[node]["inputs"][name]["tooltip"]
            assert not SYNTAX.search(translated), (node, name)
            assert set(FIXED.findall(own["tooltip"])) <= set(FIXED.findall(translated)), (node, name)


def test_pages_are_given_all_languages(host):
    served = host.get("/i18n")
    for language in LANGUAGES:
        assert served[language]["nodeDefs"].items() >= read(language).items()
    assert {path.name for path in FOLDER.iterdir()} == set(LANGUAGES)


@IN_TWO_SITES
def test_a_page_in_another_language_shows_the_node_in_it(site):
    try:
        with site.browser.page_with_graph("LiveAvatarSampler") as page:
            version = page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__").split(".")
            # Older pages write their own texts of a language over those of packs; newer ones have no German.
            language = "de" if int(version[1]) < 40 else "fr"
            wanted = read(language)["LiveAvatarSampler"]
            site.host.post("/settings/Comfy.Locale", language)
            page.reload()
            wait_ready(page, "LiveAvatarSampler")
            texts = [wanted["display_name"], wanted["inputs"]["speech"]["name"]]
            page.wait_for_function(IS_NAMED, arg=texts)
            assert [line for line in page.complaints if "intlify" in line] == []
    finally:
        site.host.post("/settings/Comfy.Locale", "en")

"""The description of the service says what the service does."""

from __future__ import annotations

import json
import re

import pytest
from avatar.jobs.job import LIMITS, LONGEST
from avatar.jobs.request import NAMES

from tools.environment import ROOT

DESCRIPTION = json.loads((ROOT / "serving" / "openapi.json").read_text(encoding="utf-8"))
SOURCE = (ROOT / "serving" / "generate.py").read_text(encoding="utf-8")
REQUEST = DESCRIPTION["components"]["schemas"]["Request"]["properties"]


def test_a_request_has_the_described_inputs():
    assert {*NAMES, "wait", "workflow"} == {*REQUEST}


@pytest.mark.parametrize("name", [name for name, field in NAMES.items() if field in LIMITS])
def test_numbers_have_the_described_limits(name):
    described = REQUEST[name].get("anyOf", [REQUEST[name]])[0]
    least, most, type_ = LIMITS[NAMES[name]]
    assert (described["minimum"], described["maximum"]) == (least, most)
    assert ("integer" if type_ is int else "number") in described["type"]


@pytest.mark.parametrize("name", ["prompt", "text", "voice"])
def test_texts_have_the_described_limits(name):
    assert REQUEST[name]["maxLength"] == LONGEST[NAMES[name]]


def test_the_description_has_the_registered_routes():
    one = "/liveavatar/generate/{id}"
    found = re.findall(r'routes\.(\w+)\((f?"[^"]+"|one)\)', SOURCE)
    routes = {
        (method, path.strip('f"').replace("{one}", one) if path != "one" else one) for method, path in found
    }
    assert routes == {
        (method, path)
        for path, item in DESCRIPTION["paths"].items()
        for method in item
        if method in ("get", "post", "delete")
    }


def test_every_reference_in_the_description_leads_somewhere():
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DESCRIPTION)):
        found = DESCRIPTION
        for part in reference.split("/"):
            found = found[part]

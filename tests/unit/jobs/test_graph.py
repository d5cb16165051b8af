"""Jobs in the shipped workflows: where values go, and what is said where there is no place."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from avatar.jobs.graph import SPOKEN, WRITER, fill
from avatar.jobs.job import Job

from tools.environment import ROOT

FULL = Job(image="me.png", audio="me.ogg", prompt="She laughs.", seed=7, steps=3, fps=20.0, seconds=2.0)


def shipped(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def inputs(graph: dict, type_: str) -> dict:
    (node,) = [node for node in graph.values() if node["class_type"] == type_]
    return node["inputs"]


@pytest.mark.parametrize(
    "name", ["demo", "liveavatar_core", "liveavatar_real_time", "liveavatar_host_loaders"]
)
def test_a_job_fills_a_shipped_workflow(name):
    before = shipped(name)
    graph = fill(before, FULL, "jobs/me")
    assert before == shipped(name), "the given workflow is left as it is"
    assert inputs(graph, "LoadImage")["image"] == "me.png"
    assert inputs(graph, "LoadAudio")["audio"] == "me.ogg"
    assert inputs(graph, "CLIPTextEncode")["text"] == "She laughs."
    sampler = inputs(graph, "LiveAvatarSampler")
    assert (sampler["seed"], sampler["steps"], sampler["max_seconds"]) == (7, 3, 2.0)
    writer = inputs(graph, "AvatarStreamToVideo")
    assert (writer["fps"], writer["filename_prefix"]) == (20.0, "jobs/me")


def test_a_text_and_a_voice_go_through_the_shipped_voice():
    graph = fill(
        shipped("text_to_speech"), Job(image="a.png", text="Good morning.", voice="Ana", seed=1), "x"
    )
    assert inputs(graph, "AvatarSay")["text"] == "Good morning."
    assert inputs(graph, "AvatarVoice")["voice"] == "Ana"
    assert inputs(graph, "AvatarSay")["voice"] == inputs(shipped("text_to_speech"), "AvatarSay")["voice"]


def test_guidance_goes_to_every_scale_that_a_model_has():
    job = Job(image="a.png", audio="a.wav", seed=1, guidance=3.0)
    sampler = inputs(fill(shipped("longcat_portrait"), job, "x"), "LongCatSampler")
    assert (sampler["text_guidance"], sampler["audio_guidance"]) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("demo", "LiveAvatarSampler"),
        ("liveavatar_core", "LiveAvatarSampler"),
        ("liveavatar_host_loaders", "LiveAvatarSampler"),
        ("longcat_portrait", "LongCatSampler"),
    ],
)
def test_guidance_compares_with_an_empty_prompt_where_a_workflow_has_no_negative_one(name, sampler):
    job = Job(image="a.png", audio="a.wav", seed=1, prompt="She smiles.", guidance=3.0)
    graph = fill(shipped(name), job, "x")
    (number, output) = inputs(graph, sampler)["negative"]
    (own,) = [node for n, node in graph.items() if node["class_type"] == "CLIPTextEncode" and n != number]
    assert output == 0 and graph[number]["class_type"] == "CLIPTextEncode"
    assert graph[number]["inputs"] == {**own["inputs"], "text": ""} and own["inputs"]["text"] == "She smiles."
    unguided = fill(shipped(name), replace(job, guidance=1.0), "x")
    assert "negative" not in inputs(unguided, sampler) and len(unguided) == len(shipped(name))


def test_a_negative_prompt_of_the_workflow_stays_and_one_that_cannot_be_made_is_asked_for():
    job = Job(image="a.png", audio="a.wav", seed=1, guidance=3.0)
    graph = shipped("demo")
    inputs(graph, "LiveAvatarSampler")["negative"] = ["4", 0]
    assert inputs(fill(graph, job, "x"), "LiveAvatarSampler")["negative"] == ["4", 0]
    graph = shipped("demo")
    inputs(graph, "LiveAvatarReferenceImage")["positive"] = ["5", 0]  # of itself: no prompt is found
    with pytest.raises(ValueError, match=r"^Connect a negative prompt in the workflow"):
        fill(graph, job, "x")


@pytest.mark.parametrize("name", ["ditto_core", "longcat_portrait", "personalive_from_speech"])
def test_the_frame_rate_is_that_of_the_video_and_not_of_a_model(name):
    before = shipped(name)
    graph = fill(before, Job(image="a.png", audio="a.wav", seed=1, fps=20.0), "x")
    changed = {graph[number]["class_type"] for number in graph if graph[number]["inputs"].get("fps") == 20.0}
    assert changed == {WRITER}


def test_what_a_job_leaves_open_stays_the_workflows_own():
    before = shipped("demo")
    graph = fill(before, Job(image="me.png", audio="me.ogg", seed=7), "jobs/me")
    sampler, own = inputs(graph, "LiveAvatarSampler"), inputs(before, "LiveAvatarSampler")
    assert {**sampler, "seed": own["seed"]} == own
    assert inputs(graph, "CLIPTextEncode") == inputs(before, "CLIPTextEncode")


def test_two_runs_of_one_job_differ_at_the_writer_only():
    first, second = (fill(shipped("demo"), FULL, "x", run) for run in "ab")
    assert [a["class_type"] for a, b in zip(first.values(), second.values(), strict=True) if a != b] == [
        "AvatarStreamToVideo"
    ]


def test_the_title_decides_among_several_portraits():
    graph = fill(shipped("personalive_from_speech"), Job(image="me.png", audio="me.ogg", seed=1), "x")
    names = {
        node["_meta"]["title"]: node["inputs"]["image"]
        for node in graph.values()
        if node["class_type"] == "LoadImage"
    }
    assert names == {"Portrait": "me.png", "Portrait that moves": "liveavatar_portrait_2_large.png"}


def test_a_text_goes_to_the_workflows_voice():
    graph = shipped("demo")
    graph["3"] = {"class_type": "AnyVoice", "inputs": {"text": "-", "voice": "-"}, "_meta": {"title": SPOKEN}}
    filled = fill(graph, Job(image="a.png", text="Good morning.", voice="Ana", seed=1), "x")
    assert filled["3"]["inputs"] == {"text": "Good morning.", "voice": "Ana"}


@pytest.mark.parametrize(
    ("name", "job", "sentence"),
    [
        ("personalive", Job(image="a", audio="b"), "Take another workflow: this one has no Load Audio"),
        (
            "liveavatar_two_speakers",
            Job(image="a", audio="b"),
            "Call one node of the workflow 'Speech': 2 could",
        ),
        ("demo", Job(image="a", text="b"), "Give audio, or take a workflow with a voice"),
        (
            "ditto_core",
            Job(image="a", audio="b", guidance=2.0),
            "Leave guidance out, or take another workflow",
        ),
        ("liveavatar", Job(image="a", audio="b", fps=20.0), "Leave fps out"),
        ("text_to_speech", Job(image="a", audio="b"), "Take another workflow: this one has no Load Audio"),
    ],
)
def test_what_a_workflow_has_no_place_for_is_said(name, job, sentence):
    with pytest.raises(ValueError, match=sentence):
        fill(shipped(name), job, "x")


@pytest.mark.parametrize("graph", [{}, [], {"nodes": [], "links": []}, {"1": {"class_type": "LoadImage"}}])
def test_a_workflow_in_the_pages_format_is_refused(graph):
    with pytest.raises(ValueError, match="Export the workflow with 'Export"):
        fill(graph, Job(image="a", audio="b"), "x")


def test_a_message_calls_a_field_what_the_request_calls_it():
    job, called = Job(image="a.png", audio="a.wav", seed=1, guidance=2.0), {"guidance": "guidance_scale"}
    with pytest.raises(ValueError, match=r"^Leave guidance_scale out"):
        fill(shipped("ditto_core"), job, "x", called=called)
    with pytest.raises(ValueError, match=r"^Leave guidance out"):
        fill(shipped("ditto_core"), job, "x")
    graph = shipped("liveavatar_core")
    (portrait,) = [node for node in graph.values() if node["class_type"] == "LoadImage"]
    portrait["_meta"] = {}
    graph["another"] = {"class_type": "LoadImage", "inputs": {"image": "b.png"}}
    with pytest.raises(ValueError, match="2 could take reference_image"):
        fill(graph, Job(image="a.png", audio="a.wav", seed=1), "x", called={"image": "reference_image"})

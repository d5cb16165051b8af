"""The command measures folders, goes on where it stopped, names what is broken, and judges by its exit code."""

from __future__ import annotations

import json
import re

import pytest
import torch
from avatar.evaluation import cli, folder
from avatar.evaluation.subjects import read_subjects
from PIL import Image

from tests.unit.evaluation.videos import FACE, MOUTH, faces, syllables, voice, write_video

PARTS = {name: [side / 64 for side in box] for name, box in (("face", FACE), ("mouth", MOUTH))}
GIVEN = [word for name, box in PARTS.items() for word in (f"--{name}", ",".join(map(str, box)))]


@pytest.fixture
def videos(tmp_path):
    made = tmp_path / "videos"
    made.mkdir()
    level = syllables(4, 1)
    write_video(made / "good.mp4", faces(level), voice(level))
    return made


def report(out):
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_a_good_folder_ends_with_0_and_a_broken_limit_with_1(videos, tmp_path):
    assert cli.main([str(videos), *GIVEN, "--out", str(tmp_path / "out")]) == 0
    assert report(tmp_path / "out")["verdicts"]["sync r"] == "good"
    level = syllables(4, 1)
    write_video(videos / "late.mp4", faces(level.roll(5)), voice(level))
    assert cli.main([str(videos), *GIVEN, "--out", str(tmp_path / "out")]) == 1
    failed = report(tmp_path / "out")["failed"]
    assert [(one["video"], one["metric"], one["value"]) for one in failed] == [("late.mp4", "sync offset", 5)]


def test_a_corrupt_file_is_named_and_the_others_go_on(videos, tmp_path, capsys):
    (videos / "broken.mp4").write_bytes(b"no video")
    assert cli.main([str(videos), *GIVEN, "--out", str(tmp_path / "out")]) == 2
    assert list(report(tmp_path / "out")["not measured"]) == ["broken.mp4"]
    assert report(tmp_path / "out")["videos"] == ["good.mp4"]
    assert "broken.mp4: Make broken.mp4 again" in capsys.readouterr().out


def test_what_is_measured_already_is_not_measured_again(videos, tmp_path, monkeypatch):
    arguments = [str(videos), *GIVEN, "--out", str(tmp_path / "out")]
    cli.main(arguments)
    first, measured, real = report(tmp_path / "out"), [], folder.measure
    monkeypatch.setattr(
        folder, "measure", lambda clip, *rest: measured.append(clip.name) or real(clip, *rest)
    )
    cli.main(arguments)
    assert measured == []
    assert report(tmp_path / "out") == first
    cli.main([*arguments, "--blocks", "12,4,0"])
    assert measured == ["good.mp4"]


def test_the_report_is_one_page_without_scripts_and_with_escaped_names(videos, tmp_path):
    (videos / "good.mp4").rename(videos / "<b>&.mp4")
    cli.main([str(videos), *GIVEN, "--out", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>&.mp4" not in page
    assert "&lt;b&gt;&amp;.mp4" in page
    assert re.findall(r"<script|https?://|src=|<link", page) == []
    assert page.count("<svg") == page.count("</svg>") >= 6
    assert "Sync per 4 s" not in page, "a single window has no course"
    assert "nan" not in page.lower().replace("finance", "")
    with Image.open(tmp_path / "out" / "videos" / "<b>&.mp4.png") as picture:
        assert picture.width == 1120


def test_each_video_has_its_own_entry(videos, tmp_path):
    Image.fromarray(faces(torch.zeros(1))[0].numpy()).save(videos / "me.png")
    entry = {**PARTS, "reference": "me.png", "blocks": [12, 4, 9], "made": [[0.5, 12], [2.0, 100]]}
    (videos / "subjects.json").write_text(json.dumps({"good.mp4": entry}), encoding="utf-8")
    assert cli.main([str(videos), "--out", str(tmp_path / "out")]) == 0
    means = report(tmp_path / "out")["means"]
    assert means["portrait distance"] < 3
    assert means["FPS"] == 50
    assert means["RTF"] == 0.5
    assert means["first frame"] == 0.5
    assert "block border" in means


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ("[]", "has to map"),
        ("{", "is no JSON"),
        ('{"a.mp4": {"colour": 1}}', "unknown keys (colour)"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path, entries, sentence):
    (tmp_path / "subjects.json").write_text(entries, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_subjects(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        {"reference": "../secret.png"},
        {"face": [0, 0, 2, 1]},
        {"blocks": "12"},
        {"made": [1]},
        {"face": [0, 0, 0, 0]},
    ],
)
def test_a_wrong_entry_is_named_with_its_video(videos, tmp_path, entry, capsys):
    (videos / "subjects.json").write_text(json.dumps({"good.mp4": entry}), encoding="utf-8")
    assert cli.main([str(videos), "--out", str(tmp_path / "out")]) == 2
    assert "good.mp4: " in capsys.readouterr().out


def test_wrong_options_are_said_in_one_sentence(videos, tmp_path, capsys):
    for arguments, sentence in (
        ([str(tmp_path / "none")], "there is no"),
        ([str(tmp_path)], "there are none"),
        ([str(videos), "--mouth", "0,0,1,1"], "Give --face as well"),
        ([str(videos), "--dino", str(tmp_path)], "Download facebook/dinov2-base"),
        ([str(videos), "--qalign", "python"], "together"),
    ):
        assert cli.main([*arguments, "--out", str(tmp_path / "out")]) == 2
        assert sentence in capsys.readouterr().err


def test_fid_without_its_library_is_said(videos, tmp_path):
    pytest.importorskip("av")
    arguments = [str(videos), *GIVEN, "--real", str(videos), "--out", str(tmp_path / "out")]
    cli.main(arguments)
    told = report(tmp_path / "out")["folder"]
    assert told["FID"].startswith("skipped: ")
    assert "256 clips" in told["FVD"]

"""Batch files, in JSON and CSV: what is read, and how bad rows and bad files are named."""

from __future__ import annotations

import json

import pytest
from avatar.jobs.batch_file import MOST_BYTES, MOST_ROWS, TEMPLATE, check_file, content, read_rows


def from_json(*rows):
    return read_rows(json.dumps(rows).encode(), "batch.json")


def from_csv(text):
    return read_rows(text.encode(), "batch.csv")


def test_the_template_is_a_batch_file():
    first, second = read_rows(TEMPLATE.encode(), "template.json")
    assert first.job.seed == 42 and second.job.seed is None
    assert (second.job.steps, second.job.fps, second.job.seconds) == (4, 25.0, 10.0)


def test_a_file_that_is_too_large_is_read_no_further_than_shows_that(tmp_path):
    file = tmp_path / "b.json"
    with file.open("wb") as opened:
        opened.truncate(MOST_BYTES + 1000)
    assert len(content(file)) == MOST_BYTES + 1
    with pytest.raises(ValueError, match=r"Split b\.json"):
        read_rows(content(file), file.name)
    file.write_bytes(b"[]")
    assert content(file) == b"[]"


def test_rows_that_cannot_be_used_do_not_make_a_file_one_that_cannot_be_read():
    data = b'[{"image": 7}]'
    check_file(data, "b.json")
    assert read_rows(data, "b.json")[0].fault.startswith("Set image to a text")


def test_json_and_csv_mean_the_same():
    rows = from_json(
        {"referenceImage": "a.png", "audio": "b.wav", "numInferenceSteps": 8, "guidanceScale": 2.5, "seed": 7}
    )
    table = from_csv("Reference Image;audio;num_inference_steps;guidance-scale;seed\na.png;b.wav;8;2.5;7\n")
    assert rows == table and rows[0].job.guidance == 2.5


def test_a_bad_row_is_named_and_the_others_are_read():
    good = {"image": "a.png", "audio": "a.wav"}
    rows = from_json(good, {"image": "a.png"}, 7, {**good, "steps": 900}, {**good, "fps": 20})
    assert [row.number for row in rows if row.job] == [1, 5]
    assert [row.fault[:22] for row in rows if not row.job] == [
        "Give either audio or t", 'Write it as {"image": ', "Set steps to a whole n",
    ]  # fmt: skip


def test_rows_are_called_by_their_number_unless_they_have_a_name():
    good = {"image": "a.png", "audio": "a.wav"}
    assert [row.job.output for row in from_json(good, {**good, "output": "talk.mp4"}, good)] == [
        "00001",
        "talk",
        "00003",
    ]


def test_two_rows_cannot_write_one_video():
    good = {"image": "a.png", "audio": "a.wav"}
    first, second = from_json({**good, "output": "Talk"}, {**good, "output": "talk.mp4"})
    assert first.job and second.fault == "Give it another output: row 1 has 'talk' too."


def test_a_name_in_two_spellings_is_refused():
    (row,) = from_json({"image": "a.png", "referenceImage": "b.png", "audio": "a.wav"})
    assert row.fault == "Give one of image and referenceImage: they mean the same."


def test_quoted_texts_keep_commas_and_lines_and_empty_lines_are_no_rows():
    (row,) = from_csv('\ufeffimage,audio,prompt,seed\n\na.png,a.wav,"She smiles, then\nlaughs",random\n,,,\n')
    assert row.job.prompt == "She smiles, then\nlaughs" and row.job.seed is None


def test_a_row_with_too_many_cells_is_named():
    bad, good = from_csv("image,audio,prompt\na.png,a.wav,one,two\na.png,a.wav,one\n")
    assert "it has 4 cells for 3 columns" in bad.fault and good.job


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"[]", "b.json", "Write rows into b.json: there are none"),
        (b"image,audio\n", "b.csv", "Write rows into b.csv"),
        (b"{}", "b.json", "Put the rows of b.json into a list"),
        (b"[{]", "b.json", "Correct b.json: it is no JSON"),
        (b'[{"seed": NaN}]', "b.json", "NaN is no number"),
        (b"[" * 200_000, "b.json", "Correct b.json"),
        (b"\xff\xfe", "b.json", "Save b.json in UTF-8"),
        (b"[]", "b.txt", "Name the file .json or .csv"),
        (b'image,audio\n"a.png,a.wav', "b.csv", "Correct line 2 of b.csv"),
        (b"image,audio,image\na.png,a.wav,b.png", "b.csv", "Name each column of b.csv once: 'image' is"),
        (b"image\n" + b"a.png\n" * (MOST_ROWS + 1), "b.csv", "Split b.csv: a batch file may have 100000 rows"),
        (b" " * (MOST_BYTES + 1), "b.json", "Split b.json"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_as_a_whole(data, name, sentence):
    for read in (check_file, read_rows):
        with pytest.raises(ValueError, match=sentence):
            read(data, name)

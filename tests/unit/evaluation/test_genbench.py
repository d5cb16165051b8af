"""The benchmark's list is the same for a seed, its videos are made once, and a failed one stops no other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from avatar.evaluation.genbench import KEEPER, Case, cases, command_of, main
from PIL import Image

from tests.unit.evaluation.videos import faces, syllables, write_video

KINDS = [("short", 5, 10.0), ("long", 2, 300.0)]


@pytest.fixture
def folders(tmp_path):
    portraits, voices = tmp_path / "portraits", tmp_path / "voices"
    portraits.mkdir(), voices.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (64, 64), "grey").save(portraits / f"{name}.png")
    with wave.open(str(voices / "v.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "NONE"))
        file.writeframes((np.sin(np.arange(4000) / 5) * 20000).astype("<i2").tobytes())
    write_video(tmp_path / "made.mp4", faces(syllables(1, 1)))
    return tmp_path


def arguments(folders, program: str) -> list[str]:
    script = folders / "engine.py"
    script.write_text(program, encoding="utf-8")
    command = f"{sys.executable} {script} {{portrait}} {{speech}} {{video}}"
    return [
        *("--portraits", str(folders / "portraits"), "--voices", str(folders / "voices")),
        *("--out", str(folders / "bench"), "--command", command, "--blocks", "12,4,9"),
        *("--short", "2", "--short-seconds", "1.2", "--long", "1", "--long-seconds", "2"),
    ]


def test_everything_is_used_before_it_is_used_again():
    portraits, voices = [Path(name) for name in "abcd"], [Path("x"), Path("y")]
    listed = cases(portraits, voices, KINDS, 1)
    assert [case.name for case in listed][:2] == ["short_000", "short_001"]
    assert len(listed) == 7
    assert len({case.portrait for case in listed[:4]}) == 4
    assert len({case.voice for case in listed[:2]}) == 2
    assert listed == cases(portraits, voices, KINDS, 1)
    assert listed != cases(portraits, voices, KINDS, 2)


def test_names_are_never_read_by_a_shell():
    case = Case("a", Path("x; rm -rf $HOME {video}.png"), Path("v"), 1)
    words = command_of("run {portrait} --to {video}", case, Path("s.wav"), Path("o.mp4"))
    assert words[2:] == ["--to", "o.mp4"]
    assert words[1] == "x; rm -rf $HOME {video}.png"
    with pytest.raises(ValueError, match=r"Put \{video\}"):
        command_of("run {portrait}", case, Path("s.wav"), Path("o.mp4"))


def test_videos_are_made_once_with_what_is_known_of_them(folders):
    count = folders / "count"
    program = (
        "import shutil, sys\n"
        f"shutil.copyfile({str(folders / 'made.mp4')!r}, sys.argv[3])\n"
        f"open({str(count)!r}, 'a').write('x')\n"
    )
    assert main(arguments(folders, program)) == 0
    assert main(arguments(folders, program)) == 0
    assert count.read_text() == "xxx"
    videos = folders / "bench" / "videos"
    known = json.loads((videos / "subjects.json").read_text(encoding="utf-8"))
    assert sorted(known) == ["long_000.mp4", "short_000.mp4", "short_001.mp4"]
    assert known["short_000.mp4"]["blocks"] == [12, 4, 9]
    assert (videos / known["short_000.mp4"]["reference"]).is_file()
    assert known["short_000.mp4"]["made"][0][1] == 25
    with wave.open(str(folders / "bench" / "speech" / "long_000.wav")) as speech:
        assert (speech.getframerate(), speech.getnframes()) == (16_000, 32_000)


def test_a_failed_video_is_named_and_the_others_are_made(folders, capsys):
    program = (
        "import shutil, sys\n"
        "if 'long' in sys.argv[3]: sys.exit(3)\n"
        f"shutil.copyfile({str(folders / 'made.mp4')!r}, sys.argv[3])\n"
    )
    assert main(arguments(folders, program)) == 2
    assert "long_000 fails: it ended with 3" in capsys.readouterr().out
    assert len(list((folders / "bench" / "videos").glob("*.mp4"))) == 2


def test_the_engine_ends_with_the_benchmark(tmp_path):
    beats = tmp_path / "beats"
    program = f"import time\nwhile True: open({str(beats)!r}, 'a').write('x'); time.sleep(0.05)"
    command = [sys.executable, "-c", KEEPER, sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as keeper:
        limit = time.monotonic() + 60
        while not beats.is_file() and time.monotonic() < limit:
            time.sleep(0.05)
        assert keeper.poll() is None
        keeper.stdin.close()  # as the system does for a process that is killed
        assert keeper.wait(60) != 0
    done = beats.stat().st_size
    time.sleep(0.5)
    assert beats.stat().st_size == done > 0


def test_a_program_that_is_not_there_is_named(folders, capfd):
    words = arguments(folders, "")
    words[words.index("--command") + 1] = "no-such-engine {video}"
    assert main(words) == 2
    assert "no-such-engine" in capfd.readouterr().err

"""Set up and run everything that belongs to this pack outside a ComfyUI of your own.

    python run.py demo    set up, generate a short talking portrait, say where the video is
    python run.py host    set up, start a ComfyUI with the pack in it, stay until Ctrl+C
    python run.py batch   send a file of rows to a running ComfyUI, one video a row
    python run.py test    set up, check the code, run all tests

Everything it makes lies in .run/ (delete it to start anew). It needs Python 3.10 or newer, no package.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - said here in words, before an import says it otherwise
    sys.exit("run.py needs Python 3.10 or newer: start it with one.")

from tools import batch
from tools.children import Terminated, end_with_children, run_to_end
from tools.chromium import MISSING, ensure_chromium
from tools.comfyui import (
    fetch_newest_page,
    find_host,
    free_port,
    host_command,
    host_requirements,
    prepare_base,
)
from tools.environment import ROOT, STATE, Environment, SetupError, read_requirements, say

USER = STATE / "user"
OTHER_PACKS = {
    "VHS_PATH": ["opencv-python-headless", "imageio-ffmpeg"],  # VideoHelperSuite
}
"""Requirements of other packs that the tests use where these variables name their folders."""
IN_PARALLEL = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
"""Two processes share the tests file by file, in the order of ``tests/conftest.py``; ``-n 0`` behind it undoes it."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line: ``command`` and its options; ``rest`` is what pytest or the host gets."""
    epilog = (
        "Environment: COMFYUI_PATH = a ComfyUI folder to use instead of a downloaded one (run with "
        ".run/venv, your own installation stays as it is); VHS_PATH, GGUF_PATH = folders of VideoHelperSuite "
        "and of city96's ComfyUI-GGUF for the tests; CHROME_PATH = the browser to test with."
    )
    parser = argparse.ArgumentParser(
        prog="run.py",
        description=__doc__,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{demo,host,batch,test}")
    commands.add_parser("demo", help="generate a short talking portrait", epilog=epilog)
    host = commands.add_parser("host", help="start a ComfyUI with the pack in it", epilog=epilog)
    host.add_argument(
        "--port", type=int, default=8188, help="port of the page (default 8188; 0 = any free one)"
    )
    host.add_argument(
        "--listen", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)"
    )
    host.add_argument(
        "rest", nargs="*", metavar="-- ARGUMENTS", help="further arguments for ComfyUI's main.py"
    )
    rows = commands.add_parser("batch", help="one video for each row of a JSON or CSV file")
    batch.add_arguments(rows)
    commands.add_parser(
        "test",
        help="check the code and run all tests",
        epilog=epilog,
        usage="run.py test [-h] [ARGUMENTS OF PYTEST]",
    )
    options, unknown = parser.parse_known_args(arguments)
    if options.command == "test":
        options.rest = unknown
    elif unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    return options


def set_up(environment: Environment, *, tests: bool) -> Path:
    """Make ready what a command needs and return the host's folder. Raises SetupError."""
    start = time.monotonic()
    host = find_host(environment)
    pack = read_requirements((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    listed = read_requirements((host / "requirements.txt").read_text(encoding="utf-8"))
    environment.ensure("ComfyUI and the pack", pack + host_requirements(listed))
    if tests:
        needed = read_requirements((ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8"))
        for variable, packages in OTHER_PACKS.items():
            needed += packages if os.environ.get(variable) else []
        environment.ensure("test tools", needed)
        fetch_newest_page(environment)
    say(f"ready after {time.monotonic() - start:.1f} s")
    return host


def demo(environment: Environment) -> int:
    """Generate the demo video in a host of its own."""
    host = set_up(environment, tests=False)
    prepare_base(USER, host)
    command = [str(environment.python), "-m", "tools.demo", "--host", str(host), "--base", str(USER)]
    command += [] if environment.has_accelerator() else ["--cpu"]
    return run_to_end(command, cwd=ROOT)


def host(environment: Environment, options: argparse.Namespace) -> int:
    """Start a host and stay until it ends."""
    folder = set_up(environment, tests=False)
    prepare_base(USER, folder)
    port = options.port or free_port()
    cpu = not environment.has_accelerator() and "--cpu" not in options.rest
    command = host_command(
        environment.python, folder, USER, port=port, listen=options.listen, cpu=cpu, extra=options.rest
    )
    say(f"ComfyUI will be at http://{options.listen}:{port} in a few seconds (Ctrl+C ends it)")
    return run_to_end(command, cwd=folder)


def test(environment: Environment, options: argparse.Namespace) -> int:
    """Check the code and run the tests; every step runs, the first failure decides the exit code."""
    host = set_up(environment, tests=True)
    if ensure_chromium() is None:
        print(MISSING, flush=True)
    start = time.monotonic()
    # Tensors of the tests are tiny: in hosts, too, more threads only take time from the other process of tests.
    variables = {**os.environ, "COMFYUI_PATH": str(host), "OMP_NUM_THREADS": "1"}
    codes: dict[str, int] = {}
    for name, arguments in {
        "ruff check": ["ruff", "check", "--output-format", "concise", "."],
        "ruff format": ["ruff", "format", "--check", "--output-format", "concise", "."],
        "pytest": ["pytest", *IN_PARALLEL, *options.rest],
    }.items():
        print(f"\n== {name} ==", flush=True)
        command = [str(environment.python), "-m", *arguments]
        codes[name] = run_to_end(command, cwd=ROOT, env=variables)
    verdicts = ", ".join(f"{name} {'failed' if code else 'passed'}" for name, code in codes.items())
    print(f"\nTotal: {verdicts} ({time.monotonic() - start:.0f} s)", flush=True)
    return next((code for code in codes.values() if code), 0)


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    options = parse(arguments)
    environment = Environment()
    try:
        if options.command == "batch":
            return batch.batch(options)
        if options.command == "demo":
            return demo(environment)
        return (host if options.command == "host" else test)(environment, options)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except Terminated:
        print("\nEnded.", file=sys.stderr)
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    end_with_children()
    sys.exit(main(sys.argv[1:]))

"""Starts a pool on this machine, or in a cluster that runs already.

    python -m pool                                     # the tiny talker on the CPU, for a look
    python -m pool --checkpoint Wan2.2-S2V-14B --lora liveavatar.safetensors --size 704x384 \\
        --performance fast --steps 3 --replicas 1 --most-replicas 8
    python -m pool --address auto ...                  # in the cluster of `ray start`

docs/POOL.md tells the rest.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import torch
from avatar.engines.parts.planning.plan import CHOICES
from avatar.jobs.access import KEY, NETWORK, loopback
from avatar.jobs.job import LIMITS
from avatar.media.portrait import check_size

from tools import talker
from tools.environment import ROOT

from .settings import Settings

USUAL_SIZE = "704x384"
"""Of LiveAvatar, in the table of speeds."""
POLL_SECONDS = 1.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m pool", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    cuda = torch.cuda.is_available()
    add("--checkpoint", type=Path, default=talker.BASE, help="folder of the model (the tiny talker)")
    add("--lora", type=Path, help="LiveAvatar's LoRA (the tiny talker's, with the tiny talker)")
    own = f"{talker.SIDE}x{talker.SIDE}"
    add("--size", help=f"WIDTHxHEIGHT of all videos, multiples of 64 ({USUAL_SIZE}; tiny talker: {own})")
    add("--steps", type=int, default=4, help="denoising steps of videos that name none (%(default)s)")
    add("--performance", choices=CHOICES, default="auto", help="as the sampler's input of this name")
    add("--device", choices=["cuda", "cpu"], default="cuda" if cuda else "cpu")
    add("--gpus", type=float, default=1.0, help="GPUs of an avatar, on cuda (%(default)s)")
    add("--cpus", type=float, default=1.0, help="CPU cores of an avatar (%(default)s)")
    add("--replicas", type=int, default=1, help="avatars that are always kept; 0: none (%(default)s)")
    add("--most-replicas", type=int, help="avatars at most (as many as are kept, at least 1)")
    add("--rest", type=float, default=300.0, help="seconds until an avatar too many ends (%(default)s)")
    add("--waiting", type=int, default=32, help="so many may wait (%(default)s)")
    add("--live-seconds", type=float, default=600.0, help="length of a live video at most (%(default)s)")
    add(
        "--videos",
        type=Path,
        default=ROOT / ".run" / "pool",
        help="folder of file jobs, shared by all machines",
    )
    add("--keep-hours", type=float, default=24.0, help="how long ended file jobs are kept (%(default)s)")
    add("--snapshot-gb", type=int, default=40, help="disk space for snapshots; 0: none (%(default)s)")
    add("--host", default="127.0.0.1", help=f"address to listen on; another one needs {NETWORK}=1 and {KEY}")
    add("--port", type=int, default=8189, help="%(default)s")
    add("--address", help="a running cluster, such as auto; without it, one on this machine alone")
    return found


def settings_of(args: argparse.Namespace) -> Settings:
    """Checked settings; ValueError in one sentence for what cannot be."""
    shipped = args.checkpoint.resolve() == talker.BASE
    lora = talker.lora() if shipped and args.lora is None else args.lora
    for path in (args.checkpoint, lora):
        if path is not None and not path.exists():
            raise ValueError(f"Name another path: there is no {path}.")
    most = max(1, args.replicas) if args.most_replicas is None else args.most_replicas
    if not 0 <= args.replicas <= most or most < 1:
        raise ValueError("Set --replicas to 0 or more, and --most-replicas to no less.")
    least, most_steps, _ = LIMITS["steps"]
    if not least <= args.steps <= most_steps:
        raise ValueError(f"Set --steps to a number from {least} to {most_steps}: it is {args.steps}.")
    if args.waiting < 1:
        raise ValueError("Set --waiting to 1 or more: who comes first waits for a moment, too.")
    if not loopback(args.host) and (os.environ.get(NETWORK) != "1" or not os.environ.get(KEY)):
        raise ValueError(f"Set {NETWORK}=1 and a {KEY}, or leave --host out: other machines could ask.")
    return Settings(
        checkpoint=args.checkpoint.resolve(),
        lora=None if lora is None else lora.resolve(),
        videos=args.videos.resolve(),
        size=(talker.SIDE, talker.SIDE) if shipped and args.size is None else _size(args.size or USUAL_SIZE),
        steps=args.steps,
        performance=args.performance,
        device=args.device,
        gpus=args.gpus if args.device == "cuda" else 0.0,
        cpus=args.cpus,
        replicas=args.replicas,
        most_replicas=most,
        rest_seconds=args.rest,
        waiting=args.waiting,
        live_seconds=args.live_seconds,
        keep_hours=args.keep_hours,
        snapshot_gb=args.snapshot_gb,
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ValueError(f"Set --size to WIDTHxHEIGHT, such as {USUAL_SIZE}: it is {text}.")
    check_size(int(height), int(width))
    return int(width), int(height)


def main() -> int:
    """Start the pool and stay until Ctrl+C."""
    args = parser().parse_args()
    try:
        settings = settings_of(args)
        if args.address is None:
            _check_free(args.host, args.port)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    # Ray reads these when it is imported. Its own ports listen on all addresses of a machine, so that nobody without
    # the cluster's token may use them.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would let its processes wait for everybody else's (15), and speech is live.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        from .start import start, stop
    except ImportError as error:
        print(f"Install Ray into this Python: pip install 'ray[serve]>=2.60' ({error}).", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO)
    start(settings, args.host, args.port, args.address)
    print(
        f"The pool listens at http://{args.host}:{args.port}/liveavatar/health (Ctrl+C ends it).", flush=True
    )
    _wait_for_the_end()
    print("Ending when the sessions have; Ctrl+C once more ends them (files go on next time).", flush=True)
    stop()
    return 0


def _check_free(host: str, port: int) -> None:
    """ValueError where nobody can listen: Ray would try for a long time."""
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"Choose another --port or --host: {host}:{port} cannot be listened on ({error})."
        ) from error


def _wait_for_the_end() -> None:
    """Wait for Ctrl+C, or for the signal by which containers are ended; the next one ends the process."""
    ended = threading.Event()
    kinds = signal.SIGINT, signal.SIGTERM
    for kind in kinds:
        signal.signal(kind, lambda *_: ended.set())
    while not ended.wait(POLL_SECONDS):
        pass
    for kind in kinds:
        signal.signal(kind, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())

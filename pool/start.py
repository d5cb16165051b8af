"""Ray and Ray Serve as the pool needs them."""

from __future__ import annotations

import os
import time
from typing import Any

import ray
from avatar.jobs.access import KEY, NETWORK
from ray import serve

from tools.environment import ROOT

from .door import Ingress
from .replica import APP, DOOR, Avatar
from .settings import Settings

AT_ONCE = 10_000
"""Requests that the door holds: a session has two, and who waits has one."""
HEALTH_SECONDS = 5.0
MARGIN_SECONDS = 30.0
POLL_SECONDS = 0.5


def start(settings: Settings, host: str, port: int, address: str | None = None) -> None:
    """Start a pool, in a cluster at ``address`` or on this machine; returns when avatars are ready."""
    alone: dict[str, Any] = {} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    told = {name: os.environ[name] for name in (KEY, NETWORK) if name in os.environ}
    ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), **told}}, **alone)
    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    serve.run(application(settings), name=APP, route_prefix="/")


def application(settings: Settings) -> serve.Application:
    """The pool as Ray Serve runs it: a door, and avatars behind it."""
    avatars = serve.deployment(
        Avatar,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        max_ongoing_requests=1,
        autoscaling_config={
            "min_replicas": settings.replicas,
            "max_replicas": settings.most_replicas,
            "target_ongoing_requests": 1,
            "metrics_interval_s": 1,
            "look_back_period_s": 2,
            "upscale_delay_s": 1,
            "downscale_delay_s": settings.rest_seconds,
        },
        health_check_period_s=HEALTH_SECONDS,
        # An avatar that is to end finishes what it does; a file that takes longer goes on elsewhere.
        graceful_shutdown_timeout_s=settings.live_seconds + MARGIN_SECONDS,
        logging_config=_logging(),
    )
    door = serve.deployment(
        Ingress,
        name=DOOR,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=AT_ONCE,
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=settings.live_seconds + MARGIN_SECONDS,
        logging_config=_logging(),
    )
    return door.bind(avatars.bind(settings), settings)


def stop() -> None:
    """End the pool when its live sessions have ended. Ray itself would cut their connections."""
    door = serve.get_deployment_handle(DOOR, APP)
    while door.drain.remote().result():
        time.sleep(POLL_SECONDS)
    serve.shutdown()
    ray.shutdown()


def _logging() -> dict[str, Any]:
    return {"enable_access_log": False}  # it would hold the ids of videos

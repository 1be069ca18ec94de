"""Definitions whose steps run on Celery workers or as Kubernetes jobs.

A step asks the compute backend for its heavy work wherever it runs itself; only the step's own
process moves. Needs the extras `celery` or `k8s`.
"""

from __future__ import annotations

from typing import Any

from dagster import Definitions, ExecutorDefinition

from saeborzoi.pipeline import STAGES
from saeborzoi.settings.load import Settings

_REDELIVERY_S = 14 * 24 * 3600


def on_celery(definitions: Definitions, broker: str) -> Definitions:
    """The same definitions, each step a task of a Celery worker.

    Parameters
    ----------
    definitions
        The project's.
    broker
        URL of Redis, e.g. ``redis://host:6379/0``; the workers' configuration names the same.
    """
    from dagster_celery import celery_executor

    configured: ExecutorDefinition = celery_executor.configured(
        {"broker": broker, "backend": broker, "config_source": celery_settings()}
    )
    return _with_executor(definitions, configured)


def celery_settings() -> dict[str, Any]:
    """Celery settings that a long step needs: Redis delivers a task a second time after an hour
    otherwise, and a task at a time is fetched."""
    return {
        "broker_transport_options": {"visibility_timeout": _REDELIVERY_S},
        "worker_prefetch_multiplier": 1,
    }


def on_kubernetes(definitions: Definitions, config: dict[str, Any]) -> Definitions:
    """The same definitions, each step a Kubernetes job.

    Parameters
    ----------
    definitions
        The project's.
    config
        Configuration of dagster-k8s's `k8s_job_executor`: namespace, image, resources, volumes.
    """
    from dagster_k8s import k8s_job_executor

    configured: ExecutorDefinition = k8s_job_executor.configured(config)
    return _with_executor(definitions, configured)


def kubernetes_steps(settings: Settings) -> dict[str, Any]:
    """What each stage's pod asks for, from the profiles that SLURM uses, too.

    Parameters
    ----------
    settings
        Whole settings; `cpus`, `mem` and the number of GPUs count.

    Returns
    -------
    dict of str to dict
        `per_step_k8s_config` of the executor.
    """
    steps = {}
    for stage in STAGES:
        profile = settings.compute.profile_of(stage)
        resources: dict[str, Any] = {"requests": {}, "limits": {}}
        if profile.cpus is not None:
            resources["requests"]["cpu"] = str(profile.cpus)
        if profile.mem is not None:
            # SLURM's units are powers of two, and M where none is written
            unit = "Mi" if profile.mem.isdigit() else "i"
            resources["requests"]["memory"] = resources["limits"]["memory"] = profile.mem + unit
        if profile.n_gpus:
            resources["limits"]["nvidia.com/gpu"] = str(profile.n_gpus)
        steps[stage] = {"container_config": {"resources": resources}}
    return steps


def _with_executor(definitions: Definitions, executor: ExecutorDefinition) -> Definitions:
    return Definitions(
        assets=definitions.assets,
        asset_checks=definitions.asset_checks,
        schedules=definitions.schedules,
        sensors=definitions.sensors,
        jobs=definitions.jobs,
        resources=definitions.resources,
        loggers=definitions.loggers,
        executor=executor,
    )

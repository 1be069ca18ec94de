"""The project on other executors: what the ready configuration of Kubernetes asks for."""

from __future__ import annotations

import runpy
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi_resources.compute.executors import kubernetes_steps, on_kubernetes
from tests.compute.compute_helpers import HERE, tiny_settings

DEPLOY = HERE.parents[1] / "deploy" / "kubernetes"


def test_pods_ask_for_what_the_profiles_say() -> None:
    settings = tiny_settings(
        profile={
            "default": {"cpus": 2, "mem": "500"},
            "trained_sae": {"cpus": 8, "mem": "64G", "gres": "gpu:a100:2"},
        }
    )
    steps = kubernetes_steps(settings)
    resources = steps["trained_sae"]["container_config"]["resources"]
    assert resources["requests"] == {"cpu": "8", "memory": "64Gi"}
    assert resources["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "2"}
    other = steps["meme_motifs"]["container_config"]["resources"]
    assert other == {"requests": {"cpu": "2", "memory": "500Mi"}, "limits": {"memory": "500Mi"}}


def test_the_executor_takes_its_configuration() -> None:
    pytest.importorskip("dagster_k8s", reason="needs saeborzoi[k8s]")
    steps = kubernetes_steps(tiny_settings(profile={"default": {"mem": "1G", "gres": "gpu:1"}}))

    @dg.asset
    def something() -> None:
        return None

    defs = on_kubernetes(
        dg.Definitions(assets=[something]),
        {"job_image": "image", "job_namespace": "n", "per_step_k8s_config": steps},
    )
    assert defs.executor is not None
    assert defs.executor.name == "k8s"
    assert defs.resolve_implicit_global_asset_job_def().executor_def is defs.executor


@pytest.mark.parametrize("name", ["celery", "kubernetes"])
def test_the_ready_definitions_load(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_k8s" if name == "kubernetes" else "dagster_celery")
    project = tmp_path / "dagster_project.toml"
    project.write_text(
        '[project]\nname = "p"\n[data]\ngenome = "g.fa"\n[[layer]]\nname = "conv1d_1"\n'
        'n_channels = 8\nbp_per_position = 2\ntrain = {shards = "s", windows = "w.bed"}\n'
    )
    monkeypatch.setenv("SAEBORZOI_PROJECT", str(project))
    monkeypatch.setenv("SAEBORZOI_IMAGE", "image")
    made = runpy.run_path(str(DEPLOY.parent / name / "definitions.py"))["defs"]
    assert made.executor.name in ("celery", "k8s")
    keys = {key.path[-1] for key in made.resolve_asset_graph().get_all_asset_keys()}
    assert "trained_sae" in keys

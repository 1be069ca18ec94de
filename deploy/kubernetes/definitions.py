"""The project's assets, each step a Kubernetes job; docs/kubernetes.md says what it needs.

SAEBORZOI_IMAGE names the image, SAEBORZOI_PROJECT the project on the shared volume.
"""

import os

from saeborzoi.settings.load import load_settings
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_resources.compute.executors import kubernetes_steps, on_kubernetes
from saeborzoi_resources.event_log import set_event_defaults

_MOUNT = {"name": "saeborzoi", "mountPath": "/saeborzoi"}
_VOLUME = {"name": "saeborzoi", "persistentVolumeClaim": {"claimName": "saeborzoi"}}

set_event_defaults()
defs = on_kubernetes(
    build_definitions(),
    {
        "job_image": os.environ["SAEBORZOI_IMAGE"],
        "job_namespace": os.environ.get("SAEBORZOI_NAMESPACE", "saeborzoi"),
        "env_vars": [f"SAEBORZOI_PROJECT={os.environ['SAEBORZOI_PROJECT']}", "SAEBORZOI_IMAGE"],
        "volumes": [_VOLUME],
        "volume_mounts": [_MOUNT],
        "step_k8s_config": {
            # time for a training to save its state
            "pod_spec_config": {"terminationGracePeriodSeconds": 60}
        },
        "per_step_k8s_config": kubernetes_steps(load_settings()),
    },
)

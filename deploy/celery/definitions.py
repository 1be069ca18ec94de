"""The project's assets with their steps on Celery workers; docs/celery.md says how to start them.

SAEBORZOI_BROKER names Redis, SAEBORZOI_PROJECT the project.
"""

import os

from saeborzoi_assets.definitions import build_definitions
from saeborzoi_resources.compute.executors import on_celery
from saeborzoi_resources.event_log import set_event_defaults

set_event_defaults()
defs = on_celery(
    build_definitions(), os.environ.get("SAEBORZOI_BROKER", "redis://localhost:6379/0")
)

"""How many nodes each SAE has, noted in Dagster's instance.

Dagster's partitions of nodes are SAEs times the nodes of the widest: of a narrower one some are
none. Event log and web server do not know the settings; they read here which those are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import dagster as dg

_KEY = "saeborzoi/n_nodes"


def note_widths(instance: dg.DagsterInstance, widths: Mapping[str, int]) -> None:
    """Note the number of nodes of SAEs, by their partition keys."""
    known = noted_widths(instance)
    if any(known.get(key) != n for key, n in widths.items()):
        text = json.dumps({**known, **widths})
        instance.daemon_cursor_storage.set_cursor_values({_KEY: text})
        # of the project's own event logs; Dagster's show absent nodes as missing
        forget = getattr(instance.event_log_storage, "forget_statuses", None)
        if forget is not None:
            forget()


def noted_widths(instance: dg.DagsterInstance) -> dict[str, int]:
    """Number of nodes of each SAE that was noted."""
    text = instance.daemon_cursor_storage.get_cursor_values({_KEY}).get(_KEY, "{}")
    return {str(key): int(n) for key, n in json.loads(text).items()}

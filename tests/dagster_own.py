"""Names of Dagster's inside that tests compare with or look through; no other test imports them.

Where one is gone, the tests that use it say nothing about saeborzoi any more: find the new name.
"""

from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.events import EngineEventData
from dagster._core.instance import DynamicPartitionsStore
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.partition_status_cache import AssetStatusCacheValue
from dagster._core.storage.sql import create_engine

SERIALIZE_SUBSET = (
    "dagster._core.definitions.partitions.subset.default.DefaultPartitionsSubset.serialize"
)

ONE_EVENT_LOG = """
telemetry: {{enabled: false}}
event_log_storage:  # one file for all runs: Dagster's default makes the tables again for each
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: {home}/events}}
compute_logs:  # the default starts four processes a run; what a job prints is in its folder
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
"""Settings of an instance whose runs write few files and start no processes."""

__all__ = [
    "ONE_EVENT_LOG",
    "SERIALIZE_SUBSET",
    "AssetStatusCacheValue",
    "CachingStaleStatusResolver",
    "DynamicPartitionsStore",
    "EngineEventData",
    "LoadingContextForTest",
    "SqlEventLogStorage",
    "SqliteEventLogStorage",
    "StaleStatus",
    "create_engine",
    "partition_loading_context",
    "sqlite_event_log",
]

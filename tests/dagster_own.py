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

__all__ = [
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

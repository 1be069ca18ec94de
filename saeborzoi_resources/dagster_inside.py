"""The door to Dagster's inside: every name of Dagster that is not part of its public interface.

`INSIDE` lists them, each with what breaks without it: those of runs (`dagster_runs.py`), of the
event log (`event_log.py`, `event_log_postgres.py`, `partition_status.py`), of backfills
(`backfills.py`) and of `dagster dev` (`dagster_dev.py`). A test holds the list against the code and
against the Dagster that is installed. No other module imports from `dagster._*`.
"""

from __future__ import annotations

from typing import NamedTuple


class Inside(NamedTuple):
    """One name that Dagster may change without notice.

    Attributes
    ----------
    name
        ``module:name`` or ``module:Class.attribute``.
    without
        What breaks where it is gone or means something else.
    takes
        Names of its parameters, those that we give by position first in their order; None for
        what is not called.
    """

    name: str
    without: str
    takes: tuple[str, ...] | None = None


_STEP = "dagster._core.execution.context"
_EVENTS = "dagster._core.storage.event_log"
_BACKFILL = "dagster._core.execution.backfill"
_STATUS = "dagster._core.storage.partition_status_cache"
_PARTITIONS = "dagster._core.definitions.partitions"

INSIDE = (
    # dagster_runs.py
    Inside(
        f"{_STEP}.system:StepExecutionContext._metadata_accumulator",
        "Metadata of many partitions would be added one by one: minutes for 4,224 nodes.",
    ),
    Inside(
        f"{_STEP}.metadata_logging:OutputMetadataAccumulator",
        "As `_metadata_accumulator`, which holds one.",
        ("per_output_metadata",),
    ),
    Inside(
        f"{_STEP}.metadata_logging:AssetMetadataHandle",
        "As `_metadata_accumulator`, whose keys these are.",
        ("asset_key", "partition_key"),
    ),
    Inside(
        f"{_EVENTS}.base:EventLogStorage.get_asset_check_execution_history",
        "A check's page would show the last SAE's result alone.",
        ("check_key", "limit"),
    ),
    Inside(
        "dagster:DagsterEvent.asset_check_evaluation_data",
        "As `get_asset_check_execution_history`.",
    ),
    Inside(
        "dagster:DagsterInstance.get_yaml_python_handlers",
        "Runs side by side in one process could wait for each other for ever.",
        (),
    ),
    Inside(
        "dagster._core.storage.compute_log_manager:CapturedLogContext",
        "Of runs side by side in one process the terminal would show nothing after the first end.",
        ("log_key",),
    ),
    Inside(
        "dagster._core.storage.compute_log_manager:ComputeLogManager.capture_logs",
        "As `CapturedLogContext`, which it gives.",
        ("log_key",),
    ),
    # dagster_dev.py
    Inside(
        "dagster._cli:dev",
        "`saeborzoi ui` could not start Dagster's processes behind its own checks.",
    ),
    Inside(
        "dagster._cli.dev:open_ipc_subprocess",
        "The web server would be started without its door: anybody who reaches it is answered.",
    ),
    Inside("dagster._cli.dev:dev_command", "As `dagster._cli:dev`."),
    Inside(
        "dagster_webserver.cli:create_app_from_workspace_process_context",
        "As `open_ipc_subprocess`: nothing would be behind the door.",
    ),
    # backfills.py
    Inside(
        f"{_BACKFILL}:PartitionBackfill",
        "The schedule could launch no backfill: new SAEs would be made by nobody at night.",
    ),
    Inside(
        f"{_BACKFILL}:PartitionBackfill.from_asset_graph_subset",
        "As `PartitionBackfill`.",
        (
            "backfill_id",
            "backfill_timestamp",
            "tags",
            "dynamic_partitions_store",
            "asset_graph_subset",
            "title",
            "description",
            "run_config",
        ),
    ),
    Inside(
        f"{_BACKFILL}:PartitionBackfill.asset_backfill_data",
        "What a backfill under way makes could not be told: it would be launched a second time.",
    ),
    Inside(
        "dagster._core.execution.asset_backfill:AssetBackfillData.target_subset",
        "As `asset_backfill_data`.",
    ),
    Inside(
        "dagster._core.definitions.assets.graph.asset_graph_subset:AssetGraphSubset",
        "As `PartitionBackfill`, which is over one.",
        ("partitions_subsets_by_asset_key", "non_partitioned_asset_keys"),
    ),
    Inside(f"{_BACKFILL}:BulkActionStatus", "Backfills could not be told from ended ones."),
    Inside(f"{_BACKFILL}:BulkActionsFilter", "As `BulkActionStatus`."),
    Inside("dagster._core.utils:make_new_backfill_id", "As `PartitionBackfill`.", ()),
    Inside(
        "dagster:DagsterInstance.add_backfill",
        "As `PartitionBackfill`.",
        ("partition_backfill",),
    ),
    Inside("dagster:DagsterInstance.get_backfills", "As `asset_backfill_data`.", ("filters",)),
    # widths.py
    Inside(
        "dagster:DagsterInstance.daemon_cursor_storage",
        "Nodes that a narrow SAE does not have would show as missing.",
    ),
    Inside("dagster:DagsterInstance.event_log_storage", "As `daemon_cursor_storage`."),
    # event_log.py
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage",
        "SQLite's event log could not be extended: 3 minutes for 4,224 nodes instead of 11 s.",
        ("base_dir", "inst_data"),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage.store_event_batch",
        "The batch of a step's events would not arrive: each event in transactions of its own.",
        ("events",),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage.run_connection",
        "A run's own file would be made with small pages, and a batch not stored in it.",
        ("run_id",),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage._connect",
        "`kept_open` would open and close a database for each event: 4 s of a run of 80.",
        ("shard",),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage.path_for_shard",
        "A run's own file would not be found before Dagster makes it.",
        ("run_id",),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage.index_transaction",
        "A batch could not be stored, nor partitions forgotten, whole or not at all.",
        (),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage.prepare_insert_event_batch",
        "A batch could not be stored in one statement.",
        ("events",),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage._event_to_row",
        "Events would be stored with the spaces of their JSON: a tenth more of a large file.",
        ("event",),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage._store_asset_event_tags",
        "Data versions of a batch would not be stored, and stale results not be told.",
        ("conn", "events", "event_ids"),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage._store_asset_event",
        "An asset's last materialization would not be noted: it would show as never made.",
        ("conn", "event", "event_id"),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage.get_asset_tags_to_index",
        "Each partition's dimensions would be stored a second time: a tenth of the file.",
        ("tag_keys",),
    ),
    Inside(
        f"{_EVENTS}:SqliteEventLogStorage.reindex_events",
        "A new event log would not be marked as up to date, and Dagster search all of it.",
        (),
    ),
    Inside(f"{_EVENTS}:SqliteEventLogStorage.reindex_assets", "As `reindex_events`.", ()),
    Inside(
        f"{_EVENTS}.sqlite.sqlite_event_log:INDEX_SHARD_NAME",
        "The index of all runs would be made by Dagster, with small pages.",
    ),
    Inside(
        f"{_EVENTS}.schema:SqlEventLogStorageTable",
        "A batch's ids could not be told, nor events of forgotten partitions be removed.",
    ),
    Inside(
        "dagster._core.storage.sqlite:SQLITE_BUSY_TIMEOUT_SECONDS",
        "A second process would not wait as long as Dagster's own until a file is free.",
    ),
    Inside(
        "dagster._core.definitions.data_version:DATA_VERSION_TAG",
        "Data versions could not be told from other tags, and stale results not be told.",
    ),
    Inside(
        "dagster._serdes:ConfigurableClassData",
        "`dagster.yaml` could not name the event log; named in signatures only.",
    ),
    # event_log_postgres.py
    Inside(
        f"{_EVENTS}:EventLogStorage",
        "What `PostgresStorage.event_log_storage` returns; named in a signature only.",
    ),
    Inside(
        "dagster_postgres:PostgresEventLogStorage",
        "PostgreSQL's event log could not be extended: partitions could not be forgotten.",
        ("postgres_url", "should_autocreate_tables", "inst_data", "token_provider"),
    ),
    Inside(
        "dagster_postgres:PostgresEventLogStorage._token_provider",
        "A database that wants short-lived passwords would refuse the event log.",
    ),
    Inside(
        "dagster_postgres:DagsterPostgresStorage._event_log_storage",
        "Dagster would use its own event log beside the one here.",
    ),
    Inside(
        "dagster_postgres.utils:get_token_provider_from_config",
        "As `_token_provider`.",
        ("config_value",),
    ),
    Inside(
        "dagster_postgres.utils:pg_url_from_config",
        "`dagster.yaml` could not say where the database is.",
        ("config_value",),
    ),
    # partition_status.py
    Inside(
        f"{_EVENTS}:SqlEventLogStorage",
        "The status of partitions could not be extended for both databases in one place.",
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage._instance",
        "Which runs are under way and which keys are defined could not be asked.",
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.get_asset_status_cache_values",
        "Each look at the partition page would write out 16 MB of JSON for 422,400 nodes.",
        ("partitions_defs_by_key", "context"),
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.update_asset_cached_status_data",
        "The status would be worked out anew at each look.",
        ("asset_key", "cache_values"),
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.wipe_asset_partitions",
        "`saeborzoi clean` could not make removed nodes show as missing.",
        ("asset_key", "partition_keys"),
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.get_latest_materialization_events",
        "Which materialization is an asset's last would stay as it was after one is forgotten.",
        ("asset_keys",),
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.get_materialized_partitions",
        "Which partitions are made could not be asked of the events.",
        ("asset_key",),
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.get_latest_asset_partition_materialization_attempts_without_"
        "materializations",
        "No partition would show as failed or under way.",
        ("asset_key", "after_storage_id"),
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.get_latest_planned_materialization_info",
        "The page of a partition would not name the run that failed.",
        ("asset_key", "partition"),
    ),
    Inside(
        f"{_EVENTS}.base:PlannedMaterializationInfo",
        "As `get_latest_planned_materialization_info`.",
        ("storage_id", "run_id"),
    ),
    Inside(
        f"{_EVENTS}:SqlEventLogStorage.index_connection",
        "Which partitions a run announced could not be asked.",
        (),
    ),
    Inside(
        "dagster._serdes:deserialize_value",
        "As `index_connection`: the events could not be read.",
        ("val", "as_type"),
    ),
    Inside(
        f"{_EVENTS}.base:AssetRecord",
        "An asset's cached status could not be read.",
    ),
    Inside(f"{_EVENTS}.base:AssetRecord.blocking_get", "As `AssetRecord`.", ("context", "id")),
    Inside(
        f"{_EVENTS}.schema:AssetEventTagsTable",
        "Data versions of forgotten partitions would stay.",
    ),
    Inside(
        f"{_EVENTS}.schema:AssetKeyTable",
        "The cached status would go on telling of forgotten partitions.",
    ),
    Inside(
        f"{_STATUS}:AssetStatusCacheValue",
        "A status could not be handed to Dagster.",
        (
            "latest_storage_id",
            "partitions_def_id",
            "serialized_materialized_partition_subset",
            "serialized_failed_partition_subset",
            "serialized_in_progress_partition_subset",
            "earliest_in_progress_materialization_event_id",
        ),
    ),
    Inside(
        f"{_STATUS}:build_failed_and_in_progress_partition_subset",
        "Failed partitions and those under way would have to be found here.",
        ("instance", "asset_key", "partitions_def", "last_planned_materialization_storage_id"),
    ),
    Inside(
        f"{_STATUS}:get_last_planned_storage_id",
        "Whether something happened since the cached status could not be told.",
        ("instance", "asset_key", "asset_record"),
    ),
    Inside(
        f"{_PARTITIONS}.context:partition_loading_context",
        "Dynamic partitions would be asked for once for each use: the page takes seconds more.",
        ("effective_dt", "dynamic_partitions_store"),
    ),
    Inside(
        f"{_PARTITIONS}.utils.multi:MULTIPARTITION_KEY_DELIMITER",
        "Keys of two dimensions could not be taken apart.",
    ),
    Inside(
        f"{_PARTITIONS}.utils.multi:PartitionDimensionKey",
        "The partition page of 422,400 nodes would take twice as long.",
        ("dimension_name", "partition_key"),
    ),
    Inside(
        f"{_PARTITIONS}.definition:MultiPartitionsDefinition.get_partition_key_from_str",
        "As `PartitionDimensionKey`, of which it makes keys.",
        ("partition_key_str",),
    ),
    Inside(
        "dagster._core.loader:LoadingContext",
        "What Dagster hands to `get_asset_status_cache_values`; named in signatures only.",
    ),
)
"""All of them, in the order of the modules that use them first."""

"""Dagster's storage in PostgreSQL, with the event log's additions of this project.

Apart from `event_log.py`, as it needs dagster-postgres, which only some projects have. The tables
and what stands in them are dagster-postgres' own.
"""

from __future__ import annotations

from typing import Any

from dagster._core.storage.event_log import EventLogStorage
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

from saeborzoi_resources.event_log import set_event_defaults
from saeborzoi_resources.partition_status import PartitionStatus


class PostgresPartitionsEventLogStorage(PartitionStatus, PostgresEventLogStorage):
    """PostgreSQL event log; made by `PostgresStorage`."""


class PostgresStorage(DagsterPostgresStorage):
    """Everything of a Dagster instance in one PostgreSQL database.

    Configured in `dagster.yaml` as ``storage: {custom: {module:
    saeborzoi_resources.event_log_postgres, class: PostgresStorage, config: {postgres_url: ...}}}``;
    takes what Dagster's own ``storage: {postgres: ...}`` takes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # here, as every process that writes events opens the storage: web server, daemon, runs
        set_event_defaults()
        super().__init__(*args, **kwargs)
        plain = self._event_log_storage
        self._event_log_storage = PostgresPartitionsEventLogStorage(
            plain.postgres_url,
            plain.should_autocreate_tables,
            token_provider=plain._token_provider,
        )

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> PostgresStorage:
        """The storage of an instance."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )

    @property
    def event_log_storage(self) -> EventLogStorage:
        """The event log."""
        return self._event_log_storage

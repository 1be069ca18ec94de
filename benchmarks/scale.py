"""What the Dagster side costs at 100 SAEs x 4,224 nodes: start of a run, time and bytes for each
node partition, loading of the definitions, answers of the web interface.

Run as `python benchmarks/scale.py FOLDER STORAGE [n_filled]`, where STORAGE is `default` (the
event log of docs/scale.md), `plain` (Dagster's own SQLite and settings) or a PostgreSQL URL
(`postgresql+psycopg2://user@host:port/database`, of an empty database; needs dagster-postgres).
`n_filled` SAEs get a history as if every node of `seqlets` had been made, 100 unless given; with
0 the web interface is left out. The folder must not exist. Pages are loaded where there is
playwright with Chromium (SAEBORZOI_CHROMIUM names its executable).
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

N_SAES, N_CHANNELS, EXPANSION = 100, 1056, 4
N_NODES = N_CHANNELS * EXPANSION
PORT = 33_071
NODE_ASSETS = ("seqlets", "meme_motifs", "tomtom_matches")
PLAIN = {
    "DAGSTER_EVENT_BATCH_SIZE": "0",
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "false",
}
PAGES = ("overview", "partitions")
QUIET = '{"loggers": {"console": {"config": {"log_level": "WARNING"}}}}'


def make_project(folder: Path) -> str:
    """A project with the top activations of one SAE, so weak that no node is selected: what is
    left is the platform's own work. Returns the SAE's key."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    letters = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, (20_000, 50))]
    genome = "\n".join(line.tobytes().decode() for line in letters)
    (folder / "genome.fa").write_text(f">chr1\n{genome}\n")
    (folder / "shards").mkdir()
    windows = "".join(f"chr1\t{i * 100_000}\t{(i + 1) * 100_000}\n" for i in range(9))
    (folder / "shards" / "train_seqs.bed").write_text(windows)
    (folder / "dagster_project.toml").write_text(
        '[project]\nname = "scale"\n[data]\ngenome = "genome.fa"\n'
        f'[[layer]]\nname = "conv1d_4"\nn_channels = {N_CHANNELS}\nbp_per_position = 16\n'
        'train = { shards = "shards", windows = "shards/train_seqs.bed" }\n'
        f'[[sae]]\nlayer = "conv1d_4"\nexpansion = {EXPANSION}\nseed = {list(range(N_SAES))}\n'
    )
    from saeborzoi.catalog.scope import Made, Scope
    from saeborzoi.jobs.provenance import write_artifact
    from saeborzoi_resources.platform import Platform

    platform = Platform(settings_file=str(folder / "dagster_project.toml"))
    key = platform.settings.wanted()[0].key
    output = platform.store.sae_artifact(key, "top_activations")
    node = np.repeat(np.arange(N_NODES, dtype=np.int32), 3)
    top = pd.DataFrame(
        {
            "node": node,
            "rank": np.tile(np.arange(3, dtype=np.int32), N_NODES),
            "window": rng.integers(0, 9, len(node)),
            "position": rng.integers(10, 6000, len(node)),
            "activation": rng.random(len(node), np.float32) + 0.1,
        }
    )
    with write_artifact(output, "v1", {}) as new:
        top.to_parquet(new / "top_activations.parquet")
        pd.DataFrame({"node": np.arange(N_NODES), "n_nonzero": 3}).to_parquet(
            new / "node_statistics.parquet"
        )
    made = Made("top_activations", "benchmark", "1", "v1", output)
    platform.record(made, Scope(sae_key=key), {})
    return key


def make_instance(folder: Path, storage: str) -> None:
    """The Dagster instance in `folder`, with a partition for each SAE."""
    import dagster as dg

    from saeborzoi.settings.load import load_settings
    from saeborzoi_assets.commands.instance import ensure_home

    os.environ.pop("DAGSTER_HOME", None)
    os.environ["SAEBORZOI_PROJECT"] = str(folder)
    if storage == "plain":
        os.environ.update(PLAIN)
    home = ensure_home(folder)
    if storage != "default":
        lines = (home / "dagster.yaml").read_text().split("\n")
        first = lines.index("event_log_storage:")
        n = next(i for i, line in enumerate(lines[first + 1 :]) if not line.startswith(" "))
        own = (
            []
            if storage == "plain"
            else [
                "storage:",
                "  custom:",
                "    module: saeborzoi_resources.event_log_postgres",
                "    class: PostgresStorage",
                f"    config: {{postgres_url: '{storage}'}}",
            ]
        )
        (home / "dagster.yaml").write_text("\n".join(lines[:first] + own + lines[first + 1 + n :]))
    keys = [h.key for h in load_settings(folder / "dagster_project.toml").wanted()]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("hyperparameters", keys)


def stored_bytes(storage: str) -> int:
    """Bytes of the instance: its files, or the database."""
    if "://" in storage:
        import sqlalchemy

        with sqlalchemy.create_engine(storage).connect() as connection:
            size = sqlalchemy.text("SELECT pg_database_size(current_database())")
            return int(connection.execute(size).scalar_one())
    home = Path(os.environ["DAGSTER_HOME"])
    for path in home.rglob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


def run(asset: str, key: str, n: int, storage: str) -> None:
    """Materialize `n` nodes in one run, and say what it cost."""
    import dagster as dg

    last = f"n{n - 1:04d}"
    partitions = f"{key}|n0000...{key}|{last}"
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "asset", "materialize"]
    command += ["-m", "saeborzoi_assets.definitions", "--select", asset, "--config-json", QUIET]
    bytes_before, begun = stored_bytes(storage), time.time()
    cpu_before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    result = subprocess.run(
        [*command, "--partition-range", partitions], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise SystemExit(result.stderr[-3000:])
    wall = time.time() - begun
    cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - cpu_before
    n_bytes = stored_bytes(storage) - bytes_before
    kind = dg.DagsterEventType
    with dg.DagsterInstance.get() as instance:
        run_id = instance.get_runs(limit=1)[0].run_id
        events = [r.event_log_entry for r in instance.get_records_for_run(run_id).records]
    at = {e.dagster_event_type: e.timestamp for e in events if e.dagster_event is not None}
    made = [e.timestamp for e in events if e.dagster_event_type == kind.ASSET_MATERIALIZATION]
    following = next(e.timestamp for e in events if e.timestamp > made[-1])
    print(
        f"{asset}, {n} nodes: start of the run {at[kind.STEP_START] - begun:.1f} s, events "
        f"{(following - made[0]) / n * 1e3:.2f} ms a node, {n_bytes / n / 1e3:.2f} kB a node; "
        f"whole command {wall:.1f} s, CPU {cpu:.1f} s = {cpu / n * 1e3:.2f} ms a node",
        flush=True,
    )


def fill(n_saes: int) -> None:
    """History of `seqlets` for whole SAEs, through the storage's own interface."""
    import dagster as dg

    asset = dg.AssetKey("seqlets")
    begun = time.process_time()
    with dg.DagsterInstance.get() as instance:
        keys = instance.get_dynamic_partitions("hyperparameters")[1:n_saes]
        entry = instance.fetch_materializations(asset, limit=1).records[0].event_log_entry
        event = entry.get_dagster_event()
        tags = event.step_materialization_data.materialization.tags
        for key in keys:
            run_id = str(uuid.uuid4())
            status = dg.DagsterRunStatus.SUCCESS
            instance.run_storage.add_run(dg.DagsterRun("__ASSET_JOB", run_id=run_id, status=status))
            entries = []
            for node in range(N_NODES):
                parts = {"hyperparameters": key, "node": f"n{node:04d}"}
                made = dg.AssetMaterialization(
                    asset,
                    partition=dg.MultiPartitionKey(parts),
                    tags={**tags, **{f"dagster/partition/{k}": v for k, v in parts.items()}},
                )
                data = event.step_materialization_data._replace(materialization=made)
                own = event._replace(event_specific_data=data)
                entries.append(entry._replace(run_id=run_id, dagster_event=own))
            for first in range(0, N_NODES, 1000):
                instance.event_log_storage.store_event_batch(entries[first : first + 1000])
    n = len(keys) * N_NODES
    print(
        f"history of {n} nodes: {(time.process_time() - begun) / max(1, n) * 1e3:.2f} ms CPU each"
    )


def load_definitions() -> None:
    """CPU and wall time from a fresh interpreter to the definitions, three times."""
    code = (
        "import time; from saeborzoi_assets.definitions import build_definitions as b;"
        "b().get_repository_def().assets_defs_by_key; print(time.process_time())"
    )
    for _ in range(3):
        begun = time.time()
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        print(f"definitions: CPU {float(out.stdout):.2f} s, wall {time.time() - begun:.2f} s")


@contextmanager
def web_server() -> Iterator[int]:
    """Dagster's web server; gives its process id."""
    command = [sys.executable, "-W", "ignore", "-m", "dagster_webserver"]
    command += ["-m", "saeborzoi_assets.definitions", "-h", "127.0.0.1", "-p", str(PORT)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        try:
            for _ in range(120):
                time.sleep(0.5)
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/server_info").close()
                    break
                except OSError:
                    continue
            yield server.pid
        finally:
            server.terminate()


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pages(pid: int) -> None:
    """Load the asset's pages, then ask each of their queries again, alone: the best of three."""
    from playwright.sync_api import Request, sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    executable = os.environ.get("SAEBORZOI_CHROMIUM")
    for name in PAGES:
        queries: dict[str, bytes] = {}

        def note(request: Request, queries: dict[str, bytes] = queries) -> None:
            if "/graphql" in request.url and request.post_data:
                operation = json.loads(request.post_data)["operationName"]
                queries.setdefault(operation, request.post_data.encode())

        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
            browser = playwright.chromium.launch_persistent_context(
                profile, executable_path=executable, args=arguments
            )
            page = browser.new_page()
            page.on("request", note)
            begun = time.time()
            page.goto(f"http://127.0.0.1:{PORT}/assets/seqlets?view={name}")
            shown = "Latest materialization" if name == "partitions" else "Latest"
            page.get_by_text(shown).first.wait_for(timeout=120_000)
            print(f"page {name}: shown after {time.time() - begun:.2f} s in a fresh browser")
            page.wait_for_timeout(5000)
            browser.close()
        for operation, body in queries.items():
            answers = [answer(body, pid) for _ in range(3)]
            wall, cpu = min(a[0] for a in answers), min(a[1] for a in answers)
            if wall > 0.05:
                print(f"  {operation}: wall {wall:.2f} s, server CPU {cpu:.2f} s")


def answer(body: bytes, pid: int) -> tuple[float, float]:
    """Wall seconds of a GraphQL answer, and CPU seconds of the server meanwhile."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/graphql", body, {"content-type": "application/json"}
    )
    before, begun = cpu_of(pid), time.time()
    with urllib.request.urlopen(request) as response:
        response.read()
    return time.time() - begun, cpu_of(pid) - before


def main() -> None:
    """Everything, one after the other."""
    folder, storage = Path(sys.argv[1]).resolve(), sys.argv[2]
    n_filled = int(sys.argv[3]) if len(sys.argv) > 3 else N_SAES
    key = make_project(folder)
    make_instance(folder, storage)
    load_definitions()
    run("seqlets", key, 1, storage)
    for asset in NODE_ASSETS:
        run(asset, key, N_NODES, storage)
    if n_filled:
        fill(n_filled)
        print(f"instance: {stored_bytes(storage) / 1e9:.2f} GB")
        with web_server() as pid:
            pages(pid)


if __name__ == "__main__":
    main()

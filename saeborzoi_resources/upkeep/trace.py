"""Where a result comes from: each asset of its chain, what made it, and whether it still holds.

What an asset is made from now is known to the asset; what stands is known to the catalogue. Here
the two are compared. Nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from saeborzoi.catalog.scope import PROJECT
from saeborzoi.errors import InputError, StoreError
from saeborzoi.jobs.fingerprint import changed, fingerprint_of
from saeborzoi.jobs.provenance import damaged, written_files
from saeborzoi.pipeline import ARTIFACTS, Artifact, Grain
from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi.settings.hyperparameters import (
    Hyperparameters,
    PartitionKey,
    partition_keys,
    set_key,
)
from saeborzoi.settings.sections import Layer
from saeborzoi_resources.platform import Platform

State = Literal[
    "current", "stale", "rests on stale", "artifact gone", "artifact differs", "not made", "unknown"
]
_SHOWN_CHANGES = 6


class Link(NamedTuple):
    """One asset of the chain, as it stands for one partition or for nodes made together.

    Attributes
    ----------
    asset
        Its name.
    partition
        Partition key; ``KEY|n0000 ... KEY|n0399`` for nodes that were made together.
    state
        ``current``; ``stale``: made from other code, settings, files or inputs than there are
        now; ``rests on stale``: itself as it should be, but an input is not; ``artifact gone``:
        its rows stand, its files do not; ``artifact differs``: its files are damaged, or of another
        result than its rows; ``not made``; ``unknown``: a file that it is made from
        is missing.
    reason
        What differs, empty where current.
    n_partitions
        Partitions that were made together.
    run_id, code_version, data_version, artifact, made_at
        As in the catalogue's table `materialization`; None where not made.
    data_fingerprint
        Fingerprint of the user's files that it was made from; None where it reads none.
    files
        Those files, as the settings name them now.
    partitions
        Keys of the partitions that were made together; of the one that is not made.
    """

    asset: str
    partition: str
    state: State
    reason: str = ""
    n_partitions: int = 0
    run_id: str | None = None
    code_version: str | None = None
    data_version: str | None = None
    data_fingerprint: str | None = None
    artifact: Path | None = None
    made_at: datetime | None = None
    files: tuple[Path, ...] = ()
    partitions: tuple[PartitionKey, ...] = ()


class Trace(NamedTuple):
    """The chain of one layer, SAE, node or set of variants."""

    key: str
    hyperparameters: Hyperparameters | None
    links: tuple[Link, ...]

    @property
    def is_current(self) -> bool:
        """Whether everything that was made still holds."""
        return all(link.state in ("current", "not made") for link in self.links)


def trace(
    platform: Platform,
    key: str,
    cache: Path | None = None,
    of: Collection[Artifact] = ARTIFACTS,
) -> Trace:
    """Follow a result back to the user's files.

    Parameters
    ----------
    platform
        The project.
    key
        A layer's name, an SAE's partition key, ``KEY|n0003``, ``variants=traits``, or
        ``KEY|variants=traits``.
    cache
        Folder that says which artifacts were found whole, so that those whose files have the same
        sizes and times are not read again; None reads every byte of each artifact.
    of
        Only these artifacts, and what they are made from.

    Raises
    ------
    PartitionKeyError
        Where the settings have no such layer, SAE or set, or it no such node.
    CatalogError
        Where the catalogue is missing or cannot be read.
    """
    settings = platform.settings
    hyperparameters, layer, parts = _parts(platform, key)
    names = leading_to(of)
    links: list[Link] = []
    with platform.catalog.read():  # kept open: DuckDB opens it once, not for each question
        for asset in artifacts_of(settings, layer):
            for part in parts.get(asset.grain, ()) if asset.name in names else ():
                links += links_of(platform, asset, part, links, cache)
    return Trace(key, hyperparameters, tuple(links))


def leading_to(artifacts: Collection[Artifact]) -> set[str]:
    """Names of artifacts, and of all that they are made from."""
    names = {artifact.name for artifact in artifacts}
    for artifact in reversed(ARTIFACTS):  # inputs stand before what is made from them
        if artifact.name in names:
            names.update(artifact.inputs)
    return names


def _parts(
    platform: Platform, key: str
) -> tuple[Hyperparameters | None, Layer | None, dict[Grain, list[PartitionKey]]]:
    """Hyperparameters and layer of a partition, and what of each grain is in its chain."""
    settings = platform.settings
    if key in [layer.name for layer in settings.layer]:
        return None, settings.layer_named(key), {"layer": [PartitionKey(key)]}
    parsed = PartitionKey.parse(key)
    name = parsed.of_set
    sets = settings.variants if name is None else settings.of_set(name).variants
    own_sets = [PartitionKey(set_key(each.name)) for each in sets]
    if name is not None and parsed.variant_set is None:
        return None, None, {"variants": own_sets}
    sae_key = parsed.owner
    sae = platform.sae(sae_key)
    if parsed.node is not None:
        sae.require_nodes([parsed.node])
    return (
        sae.hyperparameters,
        sae.layer,
        {
            "layer": [PartitionKey(sae.layer.name)],
            "sae": [PartitionKey(sae_key)],
            "node": [PartitionKey(sae_key, parsed.node)],
            "variants": own_sets,
            "sae_variants": [PartitionKey(sae_key, variant_set=each.name) for each in sets],
            "project": [PartitionKey(PROJECT)],
        },
    )


def links_of(
    platform: Platform,
    asset: Artifact,
    part: PartitionKey,
    before: Sequence[Link] = (),
    cache: Path | None = None,
) -> list[Link]:
    """Links of an asset: one for each run that made partitions that stand.

    `part` is of whom, `before` are the links of what it may be made from; for the others see
    `trace`.
    """
    owner, node, variant_set = part
    rows = [
        (row, None if row["nodes"] is None else [int(number) for number in row["nodes"]])
        for row in platform.catalog.standing(asset.name, owner).to_dict("records")
        if variant_set is None or row["variant_set"] == variant_set
    ]
    if node is not None:
        rows = [(row, nodes) for row, nodes in rows if nodes is not None and node in nodes]
    if not rows:
        return [Link(asset.name, str(part), "not made", "materialize it", partitions=(part,))]
    damage = _damage([row for row, _ in rows], cache)
    links = []
    for row, nodes in rows:
        made_together = partition_keys(owner, nodes) if variant_set is None else [part]
        made_from = json.loads(row["made_from"]) if isinstance(row["made_from"], str) else {}
        state, reason, files = _state(platform, asset, part, nodes, row, made_from, before, damage)
        if node is not None or len(made_together) == 1:
            partition = str(made_together[0] if node is None else part)
        else:
            partition = f"{made_together[0]} ... {made_together[-1]}"
        links.append(
            Link(
                asset.name,
                partition,
                state,
                reason,
                len(made_together),
                row["run_id"],
                row["code_version"],
                row["data_version"],
                made_from.get("files"),
                Path(row["artifact"]),
                row["made_at"].to_pydatetime().astimezone(UTC),
                files,
                tuple(made_together if node is None else [part]),
            )
        )
    return links


def _damage(rows: Sequence[Mapping[str, Any]], cache: Path | None) -> dict[str, str]:
    """Artifacts that are not as they were written, and how that is known."""
    damage: dict[str, str] = {}
    folders: dict[Path, Path] = {}
    digests: dict[Path, str] = {}
    for row in rows:
        folder = Path(row["artifact"])
        try:
            files = written_files(folder, row["data_version"])
        except StoreError as error:
            damage[row["artifact"]] = str(error)
            continue
        digests |= files
        folders |= dict.fromkeys(files, folder)
    for file in changed(digests, cache):
        damage.setdefault(str(folders[file]), str(damaged(folders[file], file)))
    return damage


def _state(
    platform: Platform,
    asset: Artifact,
    part: PartitionKey,
    together: list[int] | None,
    row: Mapping[str, Any],
    made_from: Mapping[str, Any],
    before: Sequence[Link],
    damage: Mapping[str, str],
) -> tuple[State, str, tuple[Path, ...]]:
    """Whether a standing result is what would be made now, and why not."""
    # inputs count for all nodes that were made together; where some of those were made again
    # since, the node's own inputs decide
    owner, node, variant_set = part
    batches = [together, *([] if node is None else [[node]])]
    try:
        versions = [platform.version_of(asset.name, owner, nodes, variant_set) for nodes in batches]
    except InputError as error:
        return "unknown", str(error), ()
    now = versions[0]
    if not Path(row["artifact"]).exists():
        return "artifact gone", "materialize it again", now.files
    # by its document: what the first release made keeps the version that it had
    then_version = fingerprint_of(made_from) if made_from else row["data_version"]
    if then_version not in [version.digest for version in versions]:
        return "stale", _difference(made_from, now.made_from), now.files
    if row["artifact"] in damage:
        return "artifact differs", damage[row["artifact"]], now.files
    inputs = now.made_from["inputs"]
    rests_on = [
        link.asset if "stale" in link.state else f"{link.asset} ({link.state})"
        for link in before
        if link.asset in inputs and link.state != "current" and _same_set(link, part)
    ]
    if rests_on:
        return "rests on stale", ", ".join(dict.fromkeys(rests_on)), now.files
    return "current", "", now.files


def _same_set(link: Link, part: PartitionKey) -> bool:
    """Whether a link is not of another set of variants than a partition is."""
    return len({part.of_set, link.partitions[0].of_set} - {None}) < 2


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed between two documents that results are made from, in words."""
    if not then:
        return "made from other code, settings, files or inputs than there are now"
    changes = []
    owners = then.get("owner", now["owner"]), then.get("variant_set")
    if owners != (now["owner"], now.get("variant_set")):
        changes.append("of every set of variants at once")
    if then["code"] != now["code"]:
        changes.append(f"code {then['code']} -> {now['code']}")
    # compared as JSON, which is what was kept: paths are text, tuples are lists
    old = _flat(then["settings"])
    new = _flat(json.loads(json.dumps(now["settings"], default=str)))
    changes += [
        f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name, "absent") != new.get(name, "absent")
    ]
    if then["files"] != now["files"]:
        changes.append(f"files changed ({then['files']} -> {now['files']})")
    changes += [
        f"input {name} changed"
        for name in dict.fromkeys([*then["inputs"], *now["inputs"]])
        if then["inputs"].get(name) != now["inputs"].get(name)
    ]
    more = len(changes) - _SHOWN_CHANGES
    return "; ".join(changes[:_SHOWN_CHANGES]) + (f"; and {more} more" if more > 0 else "")


def _flat(document: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested settings by their dotted names.

    >>> _flat({"selection": {"n_top": 5}, "annotation": [{"name": "ccre"}]})
    {'selection.n_top': 5, 'annotation.0.name': 'ccre'}
    """
    if isinstance(document, Mapping):
        items = document.items()
    elif isinstance(document, list):
        items = {str(i): value for i, value in enumerate(document)}.items()
    else:
        return {name: document}
    leaves = {}
    for key, value in items:
        leaves.update(_flat(value, f"{name}.{key}" if name else key))
    return leaves


def as_text(trace: Trace) -> str:
    """The chain for a terminal, inputs first."""
    lines = [trace.key]
    if trace.hyperparameters is not None:
        values = trace.hyperparameters.model_dump()
        lines.append("  " + ", ".join(f"{name} {value}" for name, value in values.items()))
    for link in trace.links:
        reason = f": {link.reason}" if link.reason else ""
        lines += ["", f"{link.asset}  {link.partition}", f"  {link.state}{reason}"]
        if link.made_at is None:
            continue
        together = f", {link.n_partitions} partitions together" if link.n_partitions > 1 else ""
        lines += [
            f"  made {link.made_at:%Y-%m-%d %H:%M:%S} UTC by run {link.run_id}{together}",
            f"  code version {link.code_version}, data version {link.data_version}",
        ]
        if link.data_fingerprint:
            lines.append(f"  data fingerprint {link.data_fingerprint}")
            lines += [f"    {file}" for file in link.files]
        lines.append(f"  artifact {link.artifact}")
    return "\n".join(lines)

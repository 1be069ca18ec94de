"""What of a project is missing, or no longer what would be made now: step by step, SAE by SAE."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from saeborzoi.catalog.scope import PROJECT
from saeborzoi.errors import CatalogError, SettingsError
from saeborzoi.pipeline import ARTIFACTS, Artifact
from saeborzoi.settings.artifacts import NEED, artifacts_of
from saeborzoi.settings.hyperparameters import Hyperparameters, PartitionKey, partition_keys
from saeborzoi_assets.plan import PipelineStep
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.trace import Link, trace

_AGAIN = "asked for again"
_NEW_INPUTS = "its inputs are made anew"
_MOST_STRETCHES = 8


class Range(NamedTuple):
    """The part of the pipeline that is asked for: artifacts, and nodes (None: every node)."""

    artifacts: tuple[Artifact, ...] = ARTIFACTS
    nodes: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        select: Collection[str] = (),
        to: str | None = None,
        nodes: Iterable[int] | None = None,
        artifacts: Sequence[Artifact] = ARTIFACTS,
    ) -> Range:
        """Artifacts by their names or their steps'; with `to`, those up to that one.

        Parameters
        ----------
        artifacts
            Those that the project has.

        Raises
        ------
        SettingsError
            Where there is no such artifact or step; lists them, or says what it needs.
        """
        names = {artifact.name for artifact in artifacts} | {a.step for a in artifacts}
        for name in [*select, *([to] if to else [])]:
            needs = [need for a in ARTIFACTS if name in (a.name, a.step) for need in a.needs]
            if name not in names and needs:
                raise SettingsError(
                    f"{name} needs {' and '.join(NEED[need] for need in dict.fromkeys(needs))}, "
                    "which the settings do not have; add it, or leave this stage out"
                )
            if name not in names:
                stages = dict.fromkeys(a.step for a in artifacts)
                raise SettingsError(
                    f"there is no stage {name!r}; stages are {', '.join(stages)}, or by asset "
                    f"{', '.join(a.name for a in artifacts)}"
                )
        chosen = [a for a in artifacts if not select or a.name in select or a.step in select]
        if to is not None:
            last = max(i for i, a in enumerate(artifacts) if to in (a.name, a.step))
            chosen = [a for a in chosen if a in artifacts[: last + 1]]
        return cls(tuple(chosen), None if nodes is None else tuple(sorted(set(nodes))))


class Work(NamedTuple):
    """One step of one SAE, or of the project, cut to what is to be made.

    Attributes
    ----------
    owner
        Partition key of the SAE; the project's where the step is about all SAEs.
    step
        With the assets and the partitions, first to last, that are to be made; no assets where
        everything stands.
    n_asked
        Partitions that were asked for.
    n_lacking
        Those of them that are to be made.
    reasons
        Why, in words, each once.
    """

    owner: str
    step: PipelineStep
    n_asked: int
    n_lacking: int
    reasons: tuple[str, ...]


def work_of(
    platform: Platform,
    hyperparameters: Hyperparameters,
    wanted: Range = Range(),  # noqa: B008  (immutable)
    *,
    again: bool = False,
) -> list[Work]:
    """The steps of an SAE that were asked for, in order, each with what of it is to be made.

    What is made from something that is to be made is to be made, too. What its layer does not have
    is left out.

    Parameters
    ----------
    again
        Everything that was asked for, whether it stands or not.

    Raises
    ------
    PartitionKeyError
        Where the SAE has no such node.
    """
    sae = platform.sae(hyperparameters.key)
    nodes = range(sae.n_nodes) if wanted.nodes is None else sae.require_nodes(wanted.nodes)
    keys: dict[str, list[PartitionKey]] = {
        "layer": [PartitionKey(sae.layer.name)],
        "sae": [PartitionKey(sae.key)],
        "node": partition_keys(sae.key, nodes),
    }
    links = _links(platform, sae.key)
    lacking: dict[str, set[PartitionKey]] = {}
    reasons: dict[str, list[str]] = {}
    artifacts = [
        artifact
        for artifact in artifacts_of(platform.settings, sae.layer)
        if artifact in wanted.artifacts and artifact.grain in keys
    ]
    for artifact in artifacts:
        asked = keys[artifact.grain]
        missing, why = _missing(asked, links.get(artifact.name, []))
        if again:
            missing, why = set(asked), [_AGAIN]
        for made in (lacking[name] for name in artifact.inputs if lacking.get(name)):
            of_nodes = artifact.grain == "node" and all(key.node is not None for key in made)
            more = (made if of_nodes else set(asked)) - missing
            if more:
                missing |= more
                why.append(_NEW_INPUTS)
        lacking[artifact.name], reasons[artifact.name] = missing, why
    return [
        work
        for step in dict.fromkeys(a.step for a in artifacts)
        for work in _works(sae.key, step, keys, lacking, reasons)
    ]


def _works(
    owner: str,
    step: str,
    keys: dict[str, list[PartitionKey]],
    lacking: dict[str, set[PartitionKey]],
    reasons: dict[str, list[str]],
) -> list[Work]:
    """A step's work: one for each stretch of nodes that follow each other, or one for all of them
    where there are many stretches, each of which would be a run of its own."""
    artifacts = [a for a in ARTIFACTS if a.step == step and a.name in lacking]
    asked = keys[artifacts[0].grain]
    made = [key for key in asked if any(key in lacking[a.name] for a in artifacts)]
    names = tuple(a.name for a in artifacts if lacking[a.name])
    why = tuple(dict.fromkeys(text for name in names for text in reasons[name]))
    if not made:
        return [Work(owner, PipelineStep(step, (), asked[0], asked[-1]), len(asked), 0, ())]
    stretches: list[list[PartitionKey]] = []
    for key in made:
        if stretches and _follows(stretches[-1][-1], key):
            stretches[-1].append(key)
        else:
            stretches.append([key])
    if len(stretches) > _MOST_STRETCHES:
        stretches = [made]
    return [
        Work(owner, PipelineStep(step, names, keys[0], keys[-1]), len(asked), len(keys), why)
        for keys in stretches
    ]


def _follows(before: PartitionKey, key: PartitionKey) -> bool:
    return before.node is not None and key.node == before.node + 1


def _links(platform: Platform, key: str) -> dict[str, list[Link]]:
    """What stands of each asset of an SAE; nothing where there is no catalogue yet."""
    if not platform.catalog.path.exists():
        return {}
    links: dict[str, list[Link]] = {}
    for link in trace(platform, key).links:
        links.setdefault(link.asset, []).append(link)
    return links


def _missing(
    asked: Sequence[PartitionKey], links: Sequence[Link]
) -> tuple[set[PartitionKey], list[str]]:
    """Partitions that do not stand as they would be made now, and why."""
    standing: set[PartitionKey] = set()
    why = []
    for link in links:
        if link.state == "not made":
            continue
        if link.state == "current":
            standing |= set(link.partitions)
        elif set(link.partitions) & set(asked):
            why.append(f"{link.state}: {link.reason}" if link.reason else link.state)
    missing = set(asked) - standing
    stand_otherwise = {key for link in links for key in link.partitions if link.made_at}
    if missing - stand_otherwise:
        why.append("not made")
    return missing, why


def project_work(
    platform: Platform, wanted: Range, *, again: bool = False, is_changing: bool = False
) -> list[Work]:
    """Steps about all SAEs of the project, with what of them is to be made.

    With `is_changing` an SAE is about to be made anew, and so are they.
    """
    work = []
    for artifact in artifacts_of(platform.settings):
        if artifact.grain != "project" or artifact not in wanted.artifacts:
            continue
        key = PartitionKey(PROJECT)
        try:
            version = platform.version_of(artifact.name, PROJECT)
            standing = platform.catalog.data_versions(artifact.name, PROJECT)
        except CatalogError:
            continue
        changes = is_changing and bool(artifact.inputs)
        is_lacking = again or changes or version.digest not in standing
        names = (artifact.name,) if is_lacking else ()
        why = _AGAIN if again else _NEW_INPUTS if standing else "not made"
        reasons = (why,) if is_lacking else ()
        work.append(
            Work(PROJECT, PipelineStep(artifact.step, names, key, key), 1, int(is_lacking), reasons)
        )
    return work

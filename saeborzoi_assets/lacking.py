"""What of a project is missing, or no longer what would be made now: step by step, SAE by SAE."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from saeborzoi.catalog.scope import PROJECT
from saeborzoi.errors import CatalogError, SettingsError
from saeborzoi.pipeline import ARTIFACT, ARTIFACTS, Artifact
from saeborzoi.settings.artifacts import NEED, artifacts_of
from saeborzoi.settings.hyperparameters import (
    Hyperparameters,
    PartitionKey,
    partition_keys,
    set_key,
)
from saeborzoi_assets.plan import PipelineStep
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.upkeep.trace import Link, leading_to, links_of, trace

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
        for name in [*select, *([] if to is None else [to])]:
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

    def up_to_step(self, name: str) -> Range:
        """What was asked for of a step and of everything that it is made from."""
        artifacts = tuple(a for a in ARTIFACTS if a.step == name)
        names = leading_to(artifacts)
        return self._replace(artifacts=tuple(a for a in self.artifacts if a.name in names))


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
    parts: Range = Range(),  # noqa: B008  (immutable)
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
    gaps = _lacking(platform, hyperparameters, parts, again=again)
    return _work_by_step(hyperparameters.key, gaps)


def missing_of(platform: Platform, hyperparameters: Hyperparameters) -> Missing:
    """What an SAE does not have yet, and what is made from it. Unlike `work_of` it asks the
    catalogue alone: what stands is left as it is, though it would be made otherwise now."""
    parts = Range()
    gaps = _lacking(platform, hyperparameters, parts, only_missing=True)
    partitions = {
        artifact: sorted(keys, key=lambda key: (key.owner, key.node or 0, key.variant_set or ""))
        for artifact, keys in gaps.lacking.items()
        if keys
    }
    return Missing(partitions, _work_by_step(hyperparameters.key, gaps))


class Missing(NamedTuple):
    """What is missing of an SAE.

    Attributes
    ----------
    partitions
        Artifact to the partitions to make, its layer's with them; none that has none.
    work
        The same, step by step.
    """

    partitions: dict[str, list[PartitionKey]]
    work: list[Work]


class _Lacking(NamedTuple):
    """Partitions of each grain that were asked for, those of each artifact to make, and why: by
    artifact, and the set of variants where it is of one."""

    keys: dict[str, list[PartitionKey]]
    lacking: dict[str, set[PartitionKey]]
    reasons: dict[tuple[str, str | None], list[str]]


def _lacking(
    platform: Platform,
    hyperparameters: Hyperparameters,
    parts: Range,
    *,
    again: bool = False,
    only_missing: bool = False,
) -> _Lacking:
    sae = platform.sae(hyperparameters.key)
    nodes = range(sae.n_nodes) if parts.nodes is None else sae.require_nodes(parts.nodes)
    keys: dict[str, list[PartitionKey]] = {
        "layer": [PartitionKey(sae.layer.name)],
        "sae": [PartitionKey(sae.key)],
        "node": partition_keys(sae.key, nodes),
        "variants": [PartitionKey(set_key(each.name)) for each in platform.settings.variants],
        "sae_variants": [
            PartitionKey(sae.key, variant_set=each.name) for each in platform.settings.variants
        ],
    }
    links = {} if only_missing or again else _links(platform, sae.key, parts)
    gaps = _Lacking(keys, {}, {})
    artifacts = [
        artifact
        for artifact in artifacts_of(platform.settings, sae.layer)
        if artifact in parts.artifacts and artifact.grain in keys
    ]
    for artifact in artifacts:
        gaps.lacking[artifact.name] = set()
        for variant_set, asked in _by_set(keys[artifact.grain]).items():
            if again:
                missing, why = set(asked), [_AGAIN]
            elif only_missing:
                made_keys = platform.catalog.partitions_made(artifact.name, asked[0].owner)
                missing = set(asked) - set(made_keys)
                why = ["not made"] if missing else []
            else:
                missing, why = _missing(asked, links.get(artifact.name, []))
            for before in (gaps.lacking.get(name, set()) for name in artifact.inputs):
                if more := _made_from(before, asked) - missing:
                    missing |= more
                    why.append(_NEW_INPUTS)
            gaps.lacking[artifact.name] |= missing
            gaps.reasons[artifact.name, variant_set] = why
    return gaps


def _by_set(keys: Sequence[PartitionKey]) -> dict[str | None, list[PartitionKey]]:
    """Partitions by the set of variants that they are about."""
    by_set: dict[str | None, list[PartitionKey]] = {}
    for key in keys:
        by_set.setdefault(key.of_set, []).append(key)
    return by_set


def _made_from(
    before: Collection[PartitionKey], asked: Sequence[PartitionKey]
) -> set[PartitionKey]:
    """Those partitions of the same SAE that are made from some of an input."""
    if asked[0].node is not None and all(key.node is not None for key in before):
        return set(before)
    sets = {key.of_set for key in before}
    return {key for key in asked if None in sets or key.of_set in (None, *sets)} if sets else set()


def _work_by_step(owner: str, gaps: _Lacking) -> list[Work]:
    return [
        work
        for step in dict.fromkeys(ARTIFACT[name].step for name in gaps.lacking)
        for work in _works(owner, step, gaps)
    ]


def _works(owner: str, step: str, gaps: _Lacking) -> list[Work]:
    """A step's work: one for each set of variants; one for each stretch of nodes that follow each
    other, or one for all of them where there are many stretches, each of which would be a run of
    its own."""
    grain = next(a.grain for a in ARTIFACTS if a.step == step and a.name in gaps.lacking)
    return [
        work
        for variant_set, asked in _by_set(gaps.keys[grain]).items()
        for work in _works_of_set(owner, step, gaps, variant_set, asked)
    ]


def _works_of_set(
    owner: str, step: str, gaps: _Lacking, variant_set: str | None, asked: list[PartitionKey]
) -> list[Work]:
    lacking = gaps.lacking
    artifacts = [a for a in ARTIFACTS if a.step == step and a.name in lacking]
    lacking_keys = [key for key in asked if any(key in lacking[a.name] for a in artifacts)]
    names = tuple(a.name for a in artifacts if lacking[a.name] & set(asked))
    why = tuple(dict.fromkeys(text for name in names for text in gaps.reasons[name, variant_set]))
    if not lacking_keys:
        return [Work(owner, PipelineStep(step, (), asked[0], asked[-1]), len(asked), 0, ())]
    stretches: list[list[PartitionKey]] = []
    for key in lacking_keys:
        if stretches and _follows(stretches[-1][-1], key):
            stretches[-1].append(key)
        else:
            stretches.append([key])
    if len(stretches) > _MOST_STRETCHES:
        stretches = [lacking_keys]
    return [
        Work(owner, PipelineStep(step, names, keys[0], keys[-1]), len(asked), len(keys), why)
        for keys in stretches
    ]


def _follows(before: PartitionKey, key: PartitionKey) -> bool:
    return before.node is not None and key.node == before.node + 1


def _links(platform: Platform, key: str, parts: Range) -> dict[str, list[Link]]:
    """What stands of each asset of an SAE that was asked for, and of what it is made from; nothing
    where there is no catalogue yet."""
    if not platform.catalog.path.exists():
        return {}
    links: dict[str, list[Link]] = {}
    for link in trace(platform, key, platform.store.fingerprints, parts.artifacts).links:
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
    platform: Platform, parts: Range, *, again: bool = False, is_changing: bool = False
) -> list[Work]:
    """Steps about all SAEs of the project, with what of them is to be made.

    With `is_changing` an SAE is about to be made anew, and so are they.
    """
    work = []
    for artifact in artifacts_of(platform.settings):
        if artifact.grain != "project" or artifact not in parts.artifacts:
            continue
        key = PartitionKey(PROJECT)
        links: list[Link] = []
        if platform.catalog.path.exists():
            try:
                links = links_of(platform, artifact, key, cache=platform.store.fingerprints)
            except CatalogError:
                continue
        missing, why = _missing([key], links)
        changes = is_changing and bool(artifact.inputs)
        if again or (changes and not missing):
            missing, why = {key}, [_AGAIN if again else _NEW_INPUTS]
        names = (artifact.name,) if missing else ()
        reasons = tuple(why) if missing else ()
        work.append(
            Work(PROJECT, PipelineStep(artifact.step, names, key, key), 1, len(missing), reasons)
        )
    return work

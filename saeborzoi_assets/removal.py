"""`saeborzoi clean`: store, catalogue and Dagster's partition together."""

from pathlib import Path

from saeborzoi.errors import ComputeError
from saeborzoi.settings import load_settings
from saeborzoi_assets.feature_browser import write_list
from saeborzoi_assets.instance import forget_partition, unfinished_runs
from saeborzoi_resources import cleaning
from saeborzoi_resources.catalog import Catalog
from saeborzoi_resources.platform import Platform
from saeborzoi_resources.store import Store

_DRY = "Nothing is removed yet; add --yes to remove it"


def remove_sae(settings_file: Path, key: str, *, for_good: bool) -> str:
    """Remove an SAE's rows, files and partition, or only say what that would be.

    Returns
    -------
    str
        What was, or would be, removed.

    Raises
    ------
    ComputeError
        Where a run of the SAE is not finished.
    """
    settings = load_settings(settings_file)
    store = Store(settings.project.store)
    catalog = Catalog(store.catalog)
    plan = cleaning.plan_removal(settings, store, catalog, key)
    text = cleaning.removal_as_text(plan)
    if not for_good:
        return f"{text}\n{_DRY}"
    runs = unfinished_runs(settings_file.parent, key)
    if runs:
        raise ComputeError(
            f"run {runs[0]} of {key} is not finished; terminate it or wait for its end, then "
            "clean again. Nothing was removed"
        )
    # the partition first: a sensor that looks in between starts nothing for it
    forgotten = forget_partition(settings_file.parent, key)
    cleaning.remove(store, catalog, plan)
    if store.browser.is_dir():
        write_list(Platform(settings_file=str(settings_file)))
    return f"{text}\nremoved" + (", with its partition in Dagster" if forgotten else "")


def remove_orphans(settings_file: Path, *, for_good: bool) -> str:
    """Remove files that nothing needs, or only name them; rows without artifact are named."""
    store = Store(load_settings(settings_file).project.store)
    found = cleaning.orphans(store, Catalog(store.catalog))
    text = cleaning.orphans_as_text(found)
    if not found.leftovers:
        return text
    if not for_good:
        return f"{text}\n{_DRY}"
    cleaning.remove_leftovers(store, found.leftovers)
    return f"{text}\nremoved"

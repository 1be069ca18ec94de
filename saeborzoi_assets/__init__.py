"""What is made: the assets, their partitions, checks and automation."""

import warnings

# the asset decorator takes BackfillPolicy, which Dagster calls beta: one warning an asset and
# process would hide everything else on the terminal
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`")

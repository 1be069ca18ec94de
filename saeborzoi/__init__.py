"""Science of saeborzoi: arrays and files in, arrays and files out. Knows no Dagster."""

from saeborzoi.caches import find_caches

__version__ = "0.1.0"

# before numba is imported, which reads its variable then
find_caches()

"""Heavy stages, a module each with `run(job, progress) -> figures`: from a job's settings and
paths to the science and back to an artifact. No mathematics and no Dagster here."""

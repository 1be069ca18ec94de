// The worker as a Nextflow process: one job file in, one artifact out. Needs the extra `worker`.
//   nextflow run main.nf --settings "$PWD/dagster_project.toml" --layer conv1d_1
params.settings = null
params.layer = null

process NORMALIZATION_CONSTANTS {
    cpus 2

    input:
    val settings   // a path on the shared filesystem: the settings name files beside it
    val layer

    output:
    path 'normalization_constants'

    script:
    """
    python ${projectDir}/make_job.py ${settings} normalization_constants ${layer} \\
        --folder job --output normalization_constants --threads ${task.cpus}
    python -m saeborzoi.worker job/job.json
    """
}

workflow {
    NORMALIZATION_CONSTANTS(params.settings, params.layer)
}

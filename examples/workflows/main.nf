// SAEs of a project by Nextflow, without Dagster: job file in, artifact out. Needs the extra `worker`.
//   nextflow run main.nf --settings "$PWD/dagster_project.toml" --layer conv1d_1 \
//       --saes conv1d_1_x4_k0.05_lr0.003_s0,conv1d_1_x4_k0.02_lr0.003_s0
params.settings = null   // a path on the shared filesystem: the settings name files beside it
params.layer = null
params.saes = ''         // partition keys

process NORMALIZATION_CONSTANTS {
    cpus 2

    input:
    val settings
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

process TRAINED_SAE {
    cpus 4
    publishDir "results/${key}", mode: 'copy'
    // stopped with its state saved, which lies in the job's folder: that is the same for each attempt
    errorStrategy { task.exitStatus == 75 ? 'retry' : 'finish' }
    maxRetries 3

    input:
    val settings
    val key
    path constants

    output:
    tuple val(key), path('trained_sae')

    script:
    """
    python ${projectDir}/make_job.py ${settings} trained_sae ${key} \\
        --folder ${launchDir}/jobs/${key} --output trained_sae \\
        --input normalization_constants=${constants} --threads ${task.cpus}
    python -m saeborzoi.worker ${launchDir}/jobs/${key}/job.json
    """
}

process TOP_ACTIVATIONS {
    cpus 4
    publishDir "results/${key}", mode: 'copy'

    input:
    val settings
    tuple val(key), path(sae)
    path constants

    output:
    tuple val(key), path('top_activations')

    script:
    """
    python ${projectDir}/make_job.py ${settings} top_activations ${key} \\
        --folder job --output top_activations --threads ${task.cpus} \\
        --input normalization_constants=${constants} --input trained_sae=${sae}
    python -m saeborzoi.worker job/job.json
    """
}

workflow {
    NORMALIZATION_CONSTANTS(params.settings, params.layer)
    TRAINED_SAE(
        params.settings,
        channel.fromList(params.saes.tokenize(',')),
        NORMALIZATION_CONSTANTS.out
    )
    TOP_ACTIVATIONS(params.settings, TRAINED_SAE.out, NORMALIZATION_CONSTANTS.out)
}

#!/bin/bash
# Stand-in for SLURM's commands, by the name under which it is called. A job runs at once, in the
# background. $FAKE holds words that say how this site differs from a plain one; $FAKE_STATE is a
# folder for the jobs.
has() { [[ " $FAKE " == *" $1 "* ]]; }
banner() { has "banner_$1" && printf 'Welcome to Nautilus. Quota 80%%\nUtilis\xe9: 3|7|9\n\n'; }
program=$(basename "$0")
echo "$program $*" >> "$FAKE_STATE/calls"
has "no_$program" && { echo "$program: command not found" >&2; exit 127; }
banner "$program"

cluster= ids= name= output=/dev/null array= script=
while [ $# -gt 0 ]; do case $1 in
    -M) cluster=$2; shift;; -j) ids=$2; shift;; -n) [ "$program" = squeue ] && { name=$2; shift; };;
    -o|-t) shift;; --job-name=*) name=${1#*=};; --output=*) output=${1#*=};;
    --array=*) array=${1#*=}; array=${array%%%*};; --name=*) name=${1#*=};; -*) ;; *) script=$1; ids=$1;;
esac; shift; done

if [ "$program" = sbatch ]; then
    refusals=$(cat "$FAKE_STATE/refusals" 2>/dev/null || echo 0)
    if [ -n "$FAKE_REFUSAL" ] && [ "$refusals" -lt "${FAKE_REFUSALS:-1000}" ]; then
        if [ -z "$FAKE_ROOM" ] || { [ -n "$array" ] && [ $((${array#*-} + 1)) -gt "$FAKE_ROOM" ]; }; then
            echo $((refusals + 1)) > "$FAKE_STATE/refusals"
            printf 'sbatch: error: %b\n' "$FAKE_REFUSAL" >&2
            exit 1
        fi
    fi
    id=$(( $(cat "$FAKE_STATE/n" 2>/dev/null || echo 100) + 1 ))
    echo $id > "$FAKE_STATE/n"
    tasks=-
    [ -n "$array" ] && tasks=$(seq 0 "${array#*-}")
    for task in $tasks; do
        key=$id; [ "$task" = - ] || key=${id}_$task
        echo "$name" > "$FAKE_STATE/$key.job"
        (
            sleep "${FAKE_DELAY:-0}"
            [ "$task" = - ] || export SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$task
            SLURM_JOB_ID=$id bash "$script" > "${output/\%a/$task}" 2>&1
            touch "$FAKE_STATE/$key.done"
        ) < /dev/null > /dev/null 2>&1 &
    done
    if has federated; then echo "$id;nautilus"
    elif has sentence; then echo "Submitted batch job $id"
    elif has sentence_with_cluster; then echo "Submitted batch job $id on cluster nautilus"
    elif has lone_number; then printf '42\n%s\n' $id
    elif has other_words; then echo "Lot <$id> accepte, 3 SU"
    elif has no_words; then echo "Bonne journee"
    elif has colours; then printf '\033[32m%s\033[0m\r\n' $id
    else echo $id; fi
    has banner_after && echo "This job will cost 3 SU"
    has fails_after && exit 1
    exit 0
fi

if has federated || has sentence_with_cluster; then
    if [ "$cluster" != nautilus ] && [ "$cluster" != all ]; then
        echo "slurm_load_jobs error: Invalid job id specified" >&2
        exit 1
    fi
elif [ -n "$cluster" ]; then
    echo "$program: error: No cluster '$cluster' known by database." >&2
    exit 1
fi
case $program in
squeue)
    if has squeue_fails && [ $(grep -c ^squeue "$FAKE_STATE/calls") -le 6 ]; then
        echo "squeue: error: Unexpected message received" >&2; exit 1
    fi
    [ "$cluster" = all ] && printf 'CLUSTER: nautilus\nARRAY_JOB_ID|NAME\n'
    for job in "$FAKE_STATE"/*.job; do
        [ -e "$job" ] || continue
        key=$(basename "${job%.job}") own=$(cat "$job")
        [ -n "$name" ] && [[ ",$name," != *",$own,"* ]] && continue
        if [ -z "$ids" ]; then echo "${key%_*}|$own"; continue; fi
        [[ ",$ids," == *",${key%_*},"* ]] || continue
        has reused && own=somebody_elses
        if has short_lines; then own=; else own="|$own"; fi
        if [ -e "${job%.job}.done" ]; then
            has forgets || echo "$key|${FAKE_END:-COMPLETED}|None$own"
        else
            echo "$key|RUNNING|None$own"
        fi
    done;;
sacct)
    if has accounting; then
        echo "${ids%%,*}|COMPLETED|3600|00:10.5||billing=1,cpu=2,gres/gpu:a100=2|$name"
        echo "${ids%%,*}.batch|COMPLETED|3600|00:10.5|2048K|cpu=2|batch"
    elif has accounting_of_another; then
        echo "${ids%%,*}|COMPLETED|3600|00:10.5||billing=1,cpu=2,gres/gpu=7|somebody_elses"
    else
        echo "SLURM accounting storage is disabled" >&2
        exit 1
    fi;;
scontrol) echo "MaxArraySize = 1001"; echo "JobId=$ids JobName=somebody_elses ExitCode=0:9";;
sinfo) echo "cpu*|up|1-00:00:00|4|2|24000|(null)|(null)";;
esac
exit 0

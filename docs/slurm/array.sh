#!/bin/bash
# An experiment as a job array: every array task runs all members of one seed.
#
#   sbatch --array=0-9 array.sh FOLDER COMMAND OPTIONS...
#   sbatch --array=0-9 array.sh runs/compare compare-strategies --preset cifar10 --device cuda
#
# OPTIONS without --seeds, --out and --max-time. join.sh makes one experiment of all seeds.
#SBATCH --job-name=cpnas
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

folder=$1 command=$2
shift 2
# the same on every start: bits depend on the number of threads
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

# below --time by more than the longest epoch or draw
max_time=${MAX_TIME:-3h30m}

# starts the experiment, and goes on with it after a requeue
code=0
cpnas "$command" "$@" --seeds "$SLURM_ARRAY_TASK_ID" --out "$folder/seed-$SLURM_ARRAY_TASK_ID" \
  --max-time "$max_time" || code=$?
if [ "$code" -eq 75 ]; then
  # not SLURM_JOB_ID: of one array task it is the number of the whole array
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"

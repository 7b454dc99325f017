#!/bin/bash
# One experiment on several nodes: a Ray cluster that lives as long as the job.
#
#   sbatch --nodes=4 ray_cluster.sh COMMAND OPTIONS...
#   sbatch --nodes=4 ray_cluster.sh compare-strategies --preset cifar10 --seeds 0,1,2,3,4 --out runs/compare --cpus-per-task 4
#
# OPTIONS without --ray and --max-time, but with --out, on a disk that all nodes see.
#SBATCH --job-name=cpnas-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --no-kill
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

# below --time by more than the longest epoch or draw
max_time=${MAX_TIME:-3h30m}

# of several networks, the address that the other nodes reach
read -r head _ <<<"$(hostname -I)"
address=$head:$((20000 + SLURM_JOB_ID % 10000))

# nobody else on the network may use the cluster
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
# Ray's own choice is 15
export RAY_worker_niceness=0
resources=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")

ray start --head --node-ip-address="$head" --port="${address##*:}" "${resources[@]}" --disable-usage-stats --block &
head_process=$!
until python -c 'import ray, sys; ray.init(sys.argv[1])' "$address" >/dev/null 2>&1; do
  kill -0 "$head_process"
  sleep 1
done

# The experiment takes nodes as they join, and goes on without one that is lost.
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
  srun --nodes="$others" --ntasks="$others" --cpus-per-task="$SLURM_CPUS_PER_TASK" --exclude="$SLURMD_NODENAME" \
    --no-kill --kill-on-bad-exit=0 ray start --address="$address" "${resources[@]}" --block &
fi

# starts the experiment, and goes on with it after a requeue
code=0
cpnas "$@" --ray "$address" --max-time "$max_time" || code=$?
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

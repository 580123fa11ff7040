#!/usr/bin/env bash
# One process per node: sbatch --nodes=2 launch/slurm.sh configs/tras_cifar100.py /shared/runs/tras
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:TERM@120
set -euo pipefail
config=$1 workdir=$2
shift 2
trap 'kill -TERM "$child"; wait "$child"' TERM
srun python -m ltssl_jax.main --config "$config" --workdir "$workdir" \
  --config.parallel.mode=shard_map --config.parallel.coordinator=auto "$@" &
child=$!
wait "$child"

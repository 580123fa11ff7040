#!/usr/bin/env bash
# Rehearses a pod on this machine: launch/local_processes.sh 2 configs/tras_digits.py runs/pod
# Each process gets DEVICES fake CPU devices (2 by default).
set -euo pipefail
count=$1 config=$2 workdir=$3
shift 3
port=$((20000 + RANDOM % 20000))
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for ((i = 0; i < count; i++)); do
  JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=${DEVICES:-2} python -m ltssl_jax.main \
    --config "$config" --workdir "$workdir" \
    --config.parallel.mode=shard_map --config.parallel.coordinator="localhost:$port" \
    --config.parallel.num_processes="$count" --config.parallel.process_id="$i" "$@" &
done
for job in $(jobs -p); do wait "$job"; done

#!/usr/bin/env bash
# Runs on every host of a TPU pod slice, from a machine with gcloud:
#   TPU=my-pod ZONE=us-central2-b launch/tpu_pod.sh configs/tras_cifar100.py /mnt/shared/runs/tras
# The package is installed on the hosts, and the work directory is on a file system they share.
set -euo pipefail
config=$1 workdir=$2
shift 2
gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command \
  "cd ltssl_jax && python -m ltssl_jax.main --config '$config' --workdir '$workdir' \
   --config.parallel.mode=shard_map --config.parallel.coordinator=auto $*"

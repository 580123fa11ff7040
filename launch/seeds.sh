#!/usr/bin/env bash
# Runs one configuration with several seeds: launch/seeds.sh configs/tras_digits.py runs/tras 0 1 2
# Further flags come from FLAGS: FLAGS="--config.method.threshold=0.9" launch/seeds.sh …
set -euo pipefail
config=$1 workdir=$2
shift 2
for seed in "$@"; do
  # FLAGS is a list of flags: it must be split.
  # shellcheck disable=SC2086
  python -m ltssl_jax.main --config "$config" --workdir "$workdir/$seed" \
    --config.seed="$seed" ${FLAGS:-}
done

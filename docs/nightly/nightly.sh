#!/bin/sh
# One night: finish an interrupted run, or start a new one; then metrics, and room for the next night.
set -u
matrix=${1:-nightly.matrix.yml}
metrics=${METRICS:-bootmatrix.prom}

# The first line is the newest run; those with a date in the future come last.
if bootmatrix runs -n 1 | head -n 1 | grep -q ', interrupted'; then
    bootmatrix matrix --resume latest --fail-on regression --deadline 6h
    status=$?
    [ "$status" -ne 2 ] || set -- start
else
    set -- start
fi
if [ "${1:-}" = start ]; then
    bootmatrix matrix "$matrix" --fail-on regression --deadline 6h
    status=$?
fi
bootmatrix report latest --fail-on regression --format openmetrics --output "$metrics"
bootmatrix prune --keep 60
exit "$status"

#!/bin/sh
# One night: finish this matrix's interrupted run, or start a new one; then metrics, and room for the next night.
#   nightly.sh [MATRIX [OPTION…]]: the options are those of `bootmatrix matrix`, such as --locked.
set -u
matrix=${1:-nightly.matrix.yml}
[ $# -eq 0 ] || shift
title=$(basename "$matrix")
title=${title%.y*ml}
title=${title%.matrix}
metrics=${METRICS:-bootmatrix.prom}
night=${NIGHT_METRICS:-bootmatrix-night.prom}

# The night itself, for the alerts: one that cannot start leaves no run. Written whole or not at all, like $metrics.
tell() {
    printf 'bootmatrix_night_%s{matrix="'"$matrix"'"} %s\n' start_time_seconds "$began" "$@" > "$night.new" &&
        mv "$night.new" "$night"
}

began=$(date +%s)
tell
bootmatrix matrix "$matrix" --resume-or-start --fail-on regression --deadline 6h "$@"
status=$?
tell exit_status "$status"
bootmatrix report "latest:$title" --fail-on regression --format openmetrics --output "$metrics"
bootmatrix prune --keep 60
exit "$status"

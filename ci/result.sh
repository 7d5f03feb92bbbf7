# Read by run.sh and merge.sh: the run that a CI job made, telling its result, and keeping the newest runs (BOOTMATRIX_KEEP: 20).
export BOOTMATRIX_REPORTS="${BOOTMATRIX_REPORTS:-reports}"
"$(dirname "$0")/announce.sh" --check || exit 2

# A job that made no run has none: an earlier run's result, restored from a cache, is not that of this commit.
[ ! -L "$BOOTMATRIX_REPORTS/latest" ] || rm "$BOOTMATRIX_REPORTS/latest"

# Annotations for GitHub; what BOOTMATRIX_ANNOUNCE says, for GitLab and others.
tell() {
    run=$(readlink "$BOOTMATRIX_REPORTS/latest" 2>/dev/null) || return 0
    [ -z "${GITHUB_OUTPUT:-}" ] || echo "run=$run" >>"$GITHUB_OUTPUT"
    [ -z "${GITHUB_ACTIONS:-}" ] || bootmatrix report "$run" --format github || true
    [ -z "${BOOTMATRIX_ANNOUNCE:-}" ] || "$(dirname "$0")/announce.sh" "$run" || true
    # What CI keeps grows with each job; the baselines of the newest runs stay.
    bootmatrix prune --keep "${BOOTMATRIX_KEEP:-20}" >/dev/null || true
}

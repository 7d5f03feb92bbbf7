#!/bin/sh
# Merges the runs of a matrix's shards in a CI job: merge.sh FOLDER…, each of which contains runs. BOOTMATRIX_ARGS: options of
# `bootmatrix merge`. BOOTMATRIX_ANNOUNCE: see announce.sh. Exit status: that of the whole matrix.
set -eu
home=${BOOTMATRIX_HOME:-$HOME/.local/share/bootmatrix-ci}
PATH=$home/bin:$PATH
. "$(dirname "$0")/result.sh"
status=0
# shellcheck disable=SC2086  # words, as their author wrote them
bootmatrix merge "$@" ${BOOTMATRIX_ARGS:-} || status=$?
tell
exit "$status"

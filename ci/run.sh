#!/bin/sh
# Runs a matrix in a CI job, whole or one shard, or tries something, and prints annotations for GitHub. Settings are variables:
#   BOOTMATRIX_FILES (a matrix or specs), or BOOTMATRIX_TRY (what `bootmatrix try` takes: ./dist/tool -- --version),
#   BOOTMATRIX_ARCHITECTURES, BOOTMATRIX_KERNEL, BOOTMATRIX_SHARD (2/4), BOOTMATRIX_ARGS, BOOTMATRIX_ANNOUNCE (announce.sh)
# Exit status: that of `bootmatrix matrix` or `bootmatrix try`.
set -eu
home=${BOOTMATRIX_HOME:-$HOME/.local/share/bootmatrix-ci}
PATH=$home/bin:$PATH
. "$(dirname "$0")/result.sh"
# KVM is used if it boots a guest; without access to the device there is nothing to try.
if [ -e /dev/kvm ] && [ ! -w /dev/kvm ]; then sudo -n chmod a+rw /dev/kvm 2>/dev/null || true; fi

if [ -n "${BOOTMATRIX_TRY:-}" ] && [ -n "${BOOTMATRIX_FILES:-}${BOOTMATRIX_SHARD:-}" ]; then
    echo "run.sh: what is tried has no files of a matrix and no shards: unset BOOTMATRIX_TRY, or the others" >&2
    exit 2
elif [ -z "${BOOTMATRIX_TRY:-}${BOOTMATRIX_FILES:-}" ]; then
    echo "run.sh: nothing to run: set BOOTMATRIX_FILES or BOOTMATRIX_TRY" >&2
    exit 2
fi
command=matrix
# Words, as their author wrote them; the name of a file is never an option, whatever a pattern fits.
# shellcheck disable=SC2086
set -- ${BOOTMATRIX_ARGS:-} -- ${BOOTMATRIX_FILES:-}
# shellcheck disable=SC2086
[ -z "${BOOTMATRIX_TRY:-}" ] || { command=try; set -- ${BOOTMATRIX_ARGS:-} $BOOTMATRIX_TRY; }
[ -z "${BOOTMATRIX_ARCHITECTURES:-}" ] || set -- --arch "$BOOTMATRIX_ARCHITECTURES" "$@"
[ -z "${BOOTMATRIX_KERNEL:-}" ] || set -- --kernel "$BOOTMATRIX_KERNEL" "$@"
[ -z "${BOOTMATRIX_SHARD:-}" ] || set -- --shard "$BOOTMATRIX_SHARD" "$@"
# The merged run is told to chat and mail, not each of its shards.
[ -z "${BOOTMATRIX_SHARD:-}" ] || export BOOTMATRIX_NOTIFY=
status=0
bootmatrix "$command" "$@" || status=$?
tell
exit "$status"

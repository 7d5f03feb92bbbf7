#!/bin/sh
# Sets up a checkout: the system's packages that are missing, and .venv with the locked Python dependencies.
# `.ci/setup.sh` sets up what a run needs, `.ci/setup.sh tests` also what the tests need, `.ci/setup.sh agent` the compiler of
# the guest's init, which long tests need. Done twice, it does nothing.
# Exit status 2 if something is missing that cannot be installed from here.
set -eu
umask 022
cd "$(dirname "$0")/.."
root=$(pwd -P)

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
MIN_PYTHON='(3, 11)'

say() { printf 'setup: %s\n' "$*"; }
complain() { printf 'setup: %s\n' "$*" >&2; }

# ---- what is missing, as lines "PACKAGE|WHAT FOR" ---------------------------------------------------------------------

has() { command -v "$1" >/dev/null 2>&1; }
need_admins() { PATH=$PATH:/usr/sbin:/sbin need "$@"; }  # a program for administrators, which works for everybody
need() { has "$1" || printf '%s|%s\n' "$2" "$3"; }  # COMMAND PACKAGE WHAT-FOR

# The QEMU binaries and their packages stand in the profiles, nowhere else. Those of profiles that do not say
# `setup: true` are large, and few need them: bootmatrix says how to install them where they are wanted.
TESTED='arch/s390x.yml'  # what the tests boot besides

profiles_to_run() { grep -l '^setup: true$' arch/*.yml; }
qemu_binaries() {  # FILE…
    awk '$1 == "qemu:" && $2 ~ /^qemu-system-/ { binary = $2 }
         $1 == "qemu_package:" { print binary, $2 }' "$@" | sort -u
}
need_qemu() { qemu_binaries "$@" | while read -r binary package; do need "$binary" "$package" "$binary"; done; }

missing_to_run() {
    # shellcheck disable=SC2046  # names of files, apart by blanks
    need_qemu $(profiles_to_run)
    need gpgv gpgv "to verify the archive's signatures"
    need sqfstar squashfs-tools "disks of roots, and of forked guests"
    need setpriv util-linux "to end QEMU together with bootmatrix"
    [ -e "$KEYRING" ] || echo "debian-archive-keyring|to verify the archive's signatures"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -d /etc/pki/tls/certs ] ||
        echo "ca-certificates|to download Python's packages"
}

missing_to_test() {
    need_qemu $TESTED
    need gcc gcc "tests of the guest's init"
    [ -e /usr/include/stdio.h ] || echo "libc6-dev|tests of the guest's init"
    need gpg gnupg "tests that sign an archive of their own"
    need apt-ftparchive apt-utils "tests of repositories"
    need createrepo_c createrepo-c "tests of repositories"
    need rpmbuild rpm "tests of repositories"
    need repo-add pacman-package-manager "tests of repositories"
    [ -d /usr/share/makepkg ] || echo "makepkg|tests of repositories: repo-add needs it"
    need bsdtar libarchive-tools "tests of repositories: repo-add needs it"
    need xorriso xorriso "tests of what is built: CDs"
    need_admins mkfs.vfat dosfstools "tests of what is built: disks"
    need mcopy mtools "tests of what is built: disks"
    need_admins sfdisk fdisk "tests of what is built: disks"
    need mkfs.erofs erofs-utils "tests of what is built: roots"
    need promtool prometheus "tests of the alert rules"
    need systemd-analyze systemd "tests of the nightly units"
    need_admins nginx nginx-light "tests of the settings of a web server"
    need fakeroot fakeroot "tests of what is built: roots"
    need autopkgtest autopkgtest "tests of testbeds for autopkgtest"
    need bwrap bubblewrap "tests of the user tier"
    need qemu-s390x-static qemu-user-static "tests of the user tier"
    need passt passt "tests of outbound networks"
    need qemu-img qemu-utils "tests of what is built: disks for clouds"
    need docker-registry docker-registry "tests that pull images from a registry"
    need htpasswd apache2-utils "tests that pull images from a registry"
    need dockerd docker.io "tests that take images from a Docker engine"
    need_admins sshd openssh-server "tests of hosts by SSH"
    need faketime faketime "tests of hosts by SSH: a wrong clock"
    need_admins slurmctld slurmctld "tests of Slurm"
    need_admins slurmd slurmd "tests of Slurm"
    need sbatch slurm-client "tests of Slurm"
    need_admins munged munge "tests of Slurm"
    has chromium || has google-chrome || echo "chromium|tests that look at the report in a browser"
    has chromedriver || echo "chromium-driver|tests that look at the report in a browser"
}

# ---- Python -----------------------------------------------------------------------------------------------------------

is_python() {  # whether it is new enough and can make virtual environments
    "$1" -c "import sys; sys.exit(sys.version_info < $MIN_PYTHON)" 2>/dev/null
}
makes_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if has "$candidate" && is_python "$candidate"; then echo "$candidate"; return; fi
    done
}

missing_python() {
    python=$(find_python)
    if [ -z "$python" ]; then
        # A system whose python3 is older may have a newer one beside it.
        for version in '' 3.13 3.12 3.11; do
            case $version in
                '') has python3 && continue; package=python3 ;;
                *) package=python$version ;;
            esac
            if apt_has "$package"; then
                echo "$package|Python 3.11 or later"
                echo "$package-venv|to make .venv"
                return
            fi
        done
        printf '%s|%s\n' python3 "Python 3.11 or later" python3-venv "to make .venv"
    elif ! makes_venvs "$python"; then
        # Debian's python3-venv belongs to python3; a further Python has its own package.
        if [ "$python" = python3 ]; then package=python3-venv; else package=$(basename "$python")-venv; fi
        echo "$package|to make .venv"
    fi
}

# ---- installing -------------------------------------------------------------------------------------------------------

apt_has() { has apt-cache && apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif [ -t 0 ]; then sudo "$@"
    else sudo -n "$@"
    fi
}
can_be_root() { [ "$(id -u)" = 0 ] || { has sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; }

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null
}

packages_of() { printf '%s\n' "$1" | cut -d'|' -f1 | sort -u | tr '\n' ' '; }

list_missing() {
    printf '%s\n' "$1" | sort -u | awk -F'|' '
        { why[$1] = ($1 in why) ? why[$1] ", " $2 : $2 }
        END { for (package in why) printf "  %-24s %s\n", package, why[package] }' | sort
}

cannot_install() {  # LINES REASON
    complain "this is missing, and $2:"
    list_missing "$1" >&2
    if has apt-get; then
        complain "install it as root, then try again:  apt-get install --no-install-recommends $(packages_of "$1")"
    else
        complain "these are Debian's names of the packages. Install what your system calls them, then try again:"
        if has dnf; then complain "  dnf install $(qemu_binaries $(profiles_to_run) | sed 's|^|/usr/bin/|; s| .*||' | tr '\n' ' ')gnupg2 debian-keyring"
        elif has pacman; then complain "  pacman -S qemu-full gnupg debian-archive-keyring"
        elif has apk; then complain "  apk add $(qemu_binaries $(profiles_to_run) | sed 's| .*||' | tr '\n' ' ')gpgv setpriv debian-archive-keyring"
        fi
    fi
    exit 2
}

# A package that this system does not have (Ubuntu's chromium is a snap) is named and left out, if it is for tests only.
without_unknown() {
    printf '%s\n' "$1" | while IFS='|' read -r package why; do
        case $package in
            chromium|chromium-driver)
                if ! apt_has "$package"; then
                    complain "there is no package $package here: $why need it, and are skipped"
                    continue
                fi ;;
        esac
        printf '%s|%s\n' "$package" "$why"
    done
}

install_missing() {  # LINES
    has apt-get || cannot_install "$1" "there is no apt-get here"
    can_be_root || cannot_install "$1" "this is neither root nor a user who may use sudo"
    say "these packages are missing:"
    list_missing "$1"
    say "updating the package lists"
    apt_get update -qq >/dev/null || complain "the package lists could not all be updated; going on with those that are there"
    lines=$(without_unknown "$1")
    [ -n "$lines" ] || return 0
    say "installing $(packages_of "$lines")"
    # shellcheck disable=SC2046  # names of packages, apart by blanks
    if ! apt_get install -qq -y --no-install-recommends $(packages_of "$lines") >"$work/log" 2>&1; then
        cat "$work/log" >&2
        complain "apt-get could not install them: see above"
        exit 2
    fi
}

system_packages() {
    missing=$(missing_python; missing_to_run; [ "$1" != tests ] || missing_to_test)
    [ -z "$missing" ] || install_missing "$missing"
    python=$(find_python)
    if [ -z "$python" ] || ! makes_venvs "$python"; then
        # Without package lists (a bare container) nothing was known of newer Pythons; now it is.
        missing=$(missing_python)
        [ -z "$missing" ] || install_missing "$missing"
        python=$(find_python)
    fi
    [ -n "$python" ] && makes_venvs "$python" ||
        cannot_install "python3|Python 3.11 or later, with venv" "no package that is here brings it"
}

# ---- .venv ------------------------------------------------------------------------------------------------------------

# The marks in .venv are written last, so what was interrupted is made anew. The path is part of them, as a virtual
# environment does not survive being moved.
digest() { { printf '%s\n' "$root"; cat "$@"; } | sha256sum | cut -d' ' -f1; }
is_marked() { [ "$(cat ".venv/$1" 2>/dev/null)" = "$2" ]; }
works() { .venv/bin/python -c '' 2>/dev/null; }

install_locked() {
    digest=$(digest requirements.lock)
    if is_marked locked "$digest" && works; then return; fi
    say "making .venv with $("$python" --version) and the packages of requirements.lock"
    rm -rf .venv
    "$python" -m venv .venv
    # The lock has all dependencies, but names none of their extras, without which pip does not find them in it.
    { .venv/bin/pip install --quiet --disable-pip-version-check --retries 5 --require-hashes --no-deps -r requirements.lock &&
        .venv/bin/pip check --quiet --disable-pip-version-check; } || {
        complain "pip could not install requirements.lock: see above"
        exit 2
    }
    echo "$digest" >.venv/locked
}

# The compiler is for few: 100 MB to download, in an environment of its own.
install_compiler() {
    wanted=$(digest requirements-agent.lock)
    if [ "$(cat .venv-agent/locked 2>/dev/null)" = "$wanted" ] && .venv-agent/bin/python -c 'import ziglang' 2>/dev/null; then
        return
    fi
    say "making .venv-agent with the packages of requirements-agent.lock"
    rm -rf .venv-agent
    "$python" -m venv .venv-agent
    .venv-agent/bin/pip install --quiet --disable-pip-version-check --retries 5 --require-hashes \
        -r requirements-agent.lock || {
        complain "pip could not install requirements-agent.lock: see above"
        exit 2
    }
    echo "$wanted" >.venv-agent/locked
}

install_project() {
    digest=$(digest pyproject.toml .venv/locked)
    if is_marked installed "$digest" && .venv/bin/bootmatrix --version >/dev/null 2>&1; then return; fi
    .venv/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
    echo "$digest" >.venv/installed
}

# Where bytecode is not written (PYTHONDONTWRITEBYTECODE, as in many containers), each start would compile the sources anew.
compile_project() { .venv/bin/python -m compileall -q src/bootmatrix; }

# One at a time: a second `make` in the same checkout waits here. The lock goes with the process.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
if has flock; then
    exec 9<.
    flock 9
fi
system_packages "${1:-run}"
install_locked
install_project
compile_project
[ "${1:-run}" != agent ] || install_compiler

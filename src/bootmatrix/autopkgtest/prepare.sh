# Makes the folder and an ordinary user, and fetches apt's lists, if the root has apt and none of them.
mkdir -p @FOLDER@ && chmod 1777 @FOLDER@ || exit 1
if command -v apt-get >/dev/null && ! ls /var/lib/apt/lists 2>/dev/null | grep -q _Packages; then
    out=$(apt-get update 2>&1) || { echo "$out" >&2; exit 1; }
fi
# Tests read it; debootstrap makes it.
[ -e /etc/fstab ] || : >/etc/fstab
# debconf's preconfiguration does nothing without apt-utils.
command -v apt-extracttemplates >/dev/null || rm -f /etc/apt/apt.conf.d/70debconf
# autopkgtest would use adduser, a Perl program, which takes many times as long under emulation.
if command -v useradd >/dev/null && ! getent passwd @USER@ >/dev/null; then
    useradd --create-home --shell /bin/bash @USER@ || exit 1
fi
# Packages may start their services by init scripts: without an init system, and without this policy, they would not.
if command -v invoke-rc.d >/dev/null && [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 0\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
fi
getent passwd @USER@ || :

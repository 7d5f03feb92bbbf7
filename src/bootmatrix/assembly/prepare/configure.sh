policy=/usr/sbin/policy-rc.d made=
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=1
fi
dpkg-query -W -f '${db:Status-Status} ${binary:Package}
' | sed -n 's/^unpacked //p' |
while read -r name; do
  script=/var/lib/dpkg/info/$name.preinst
  if [ -x "$script" ]; then
    DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE=${name%:*} DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 \
      DPKG_MAINTSCRIPT_ARCH=$(dpkg --print-architecture) DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg \
      "$script" install </dev/null || { echo "$script: exit status $?"; exit 1; }
  fi
done || exit
dpkg --configure -a --force-confold || exit
[ -z "$made" ] || rm $policy

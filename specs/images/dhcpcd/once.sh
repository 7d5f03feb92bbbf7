#!/bin/sh
# Configure the network once. A card on USB appears seconds after the boot, and dhcpcd ends at once if there is none.
tries=0
until ls -d /sys/class/net/*/device >/dev/null 2>&1 || [ "$tries" -ge 150 ]; do
	sleep 0.2
	tries=$((tries + 1))
done
exec /sbin/dhcpcd --nobackground -f /dhcpcd.conf -1

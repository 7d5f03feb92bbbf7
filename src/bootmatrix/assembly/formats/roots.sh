#!/bin/busybox sh
# Finds the disk with the root, and starts what is on it.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /disk /run
$b mount -t devtmpfs dev /dev
$b mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
while read -r module; do $b insmod "$module" || echo "bootmatrix: cannot load $module"; done </etc/bootmatrix/modules
tries=0
while [ "$tries" -lt 600 ]; do
	for block in /sys/block/*; do
		$b mount -t @TYPE@ -o ro "/dev/${block##*/}" /disk 2>/dev/null || continue
		if read -r found </disk/@MARK@ && [ "$found" = @ID@ ]; then break 2; fi
		$b umount /disk
	done 2>/dev/null
	tries=$((tries + 1))
	$b sleep 0.05
done
[ -e /disk/@MARK@ ] || { echo "bootmatrix: no disk has the root @ID@"; $b poweroff -f; }
$b mount -t tmpfs -o mode=755 tmp /run
$b mkdir /run/upper /run/work /run/root
$b mount -t overlay -o lowerdir=/disk,upperdir=/run/upper,workdir=/run/work overlay /run/root || $b poweroff -f
$b umount /sys
$b umount /dev
exec $b switch_root /run/root /init

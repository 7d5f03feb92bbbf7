# Run init of the guest's root beside this file, in namespaces of its own, on this terminal. $1: seconds until it is
# killed, in case that nobody is at the other end any more. The folder is removed in the end. util-linux or busybox.
folder=${0%/*} limit=$1
PATH=$PATH:/usr/sbin:/sbin
if [ "$2" = inside ]; then
	set -e
	root=$folder/root
	mount --make-rprivate / 2>/dev/null || :
	mount --bind "$root" "$root"
	mount -t tmpfs -o mode=755 tmpfs "$root/dev"
	for name in null zero full random urandom tty; do
		: >"$root/dev/$name"
		mount --bind "/dev/$name" "$root/dev/$name"
	done
	: >"$root/dev/console"
	mount --bind "$3" "$root/dev/console"
	ln -s pts/ptmx "$root/dev/ptmx"
	exec chroot "$root" /init
fi

kill_all() {
	kill -9 $(cat "/proc/$child/task/$child/children" 2>/dev/null) $child 2>/dev/null
}
terminal=$(tty) options='--pid --fork --mount --uts --ipc --net'
[ "$(id -u)" = 0 ] || options="$options --user --map-root-user"
unshare --help 2>&1 | grep -q -e --cgroup && options="$options --cgroup"
unshare $options sh "$0" "$limit" inside "$terminal" &
child=$!
trap kill_all HUP TERM INT
(
	trap 'kill $!' TERM
	sleep "$limit" &
	wait $! && kill_all
) </dev/null >/dev/null 2>&1 &
watcher=$!
wait $child
status=$?
kill $watcher 2>/dev/null
chmod -R u+rwx "$folder" 2>/dev/null
rm -rf "$folder"
exit $status

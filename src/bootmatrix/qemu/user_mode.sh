set -u
exec 3>&2 2>&1
broken() { echo "broken $*" >&3; exit 1; }
mount -t tmpfs -o size=@SIZE_MIB@m,mode=755 tmpfs /tmp || broken cannot mount a tmpfs
cd /tmp && mkdir guest binfmt run status pid log bin || broken cannot make folders
tar -xp --no-same-owner --delay-directory-restore -f - -C guest || broken cannot unpack the tree
exec </dev/null
overlay() {
	mkdir -p "$2/upper" "$2/work" "$3" || broken cannot make folders
	mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$3" || broken cannot mount an overlay
}
prepare() { mkdir -p "run/$1" "log/$1"; overlay "/tmp/guest/$2" "/tmp/run/$1" "/tmp/run/$1/root"; }
volume() {
	overlay "/tmp/guest/containers/volumes/$1/lower" "/tmp/run/volume-$1" "/tmp/guest/containers/volumes/$1/merged"
}
run() {
	echo "start $1" >&3
	{
		"c$1" 3>&- &
		echo "$!" >"pid/$1"
		wait "$!"
		echo "$?" >"status/$1"
		echo "end $1 $(cat "status/$1")" >&3
	} 2>&1 | fold -b -w 2048 3>&- | awk -v name="$2" '{ print name "| " $0; fflush() }' 3>&-
}
lacks() {
	find "log/$1" -type f -exec cat {} + | head -c 1000000 |
		sed -n 's/^Unsupported syscall: \([0-9]\{1,4\}\)$/\1/p' | sort -un | head -n 32 |
		sed "s/^/lacks $1 /" >&3
}
mark() {
	{ cp -L "$1" "$2" && printf '@MARK@' | dd of="$2" bs=1 seek=@MARK_AT@ conv=notrunc; } 2>/dev/null ||
		broken "cannot copy $1"
}
emulate() {
	for tool in @TOOLS@; do mark "$(command -v "$tool")" "bin/$tool"; done
	mark "$1" emulator && : >bin/foreign && chmod 755 bin/foreign
	{ mount -t binfmt_misc binfmt_misc binfmt && printf %s "$2" >binfmt/register && printf %s "$3" >binfmt/register; } ||
		broken cannot register the emulator with the kernel
	PATH=/tmp/bin
}
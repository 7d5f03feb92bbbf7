# For checks in shell: each step as a line of TAP. The first step that fails ends the check.
#
#	. /usr/lib/tap.sh
#	plan 3
#	eventually "the server answers" ping          until the command succeeds, for some time
#	step "write" put key value                    the command once
#	before=$(identity); restart redis             stops a service of the spec and starts it again
#	eventually "it is restarted" changed "$before" identity
#
# Each command runs in a shell of its own: variables that it sets are gone afterwards.

TAP=0
TRIES=${TRIES:-300}

plan() { echo "1..$1"; }

passed() {
	TAP=$((TAP + 1))
	echo "ok $TAP - $1"
}

failed() {
	TAP=$((TAP + 1))
	echo "not ok $TAP - $1"
	exit 1
}

step() {
	local what=$1 said
	shift
	said=$("$@" 2>&1) || failed "$what: $(one_line "$said")"
	passed "$what"
}

eventually() {
	local what=$1 said tries=0
	shift
	until said=$("$@" 2>&1); do
		[ $? != 127 ] || failed "$what: $(one_line "$said")"    # a command that is not there will not come
		tries=$((tries + 1))
		[ $((tries % 100)) != 0 ] || echo "# $what: not after $tries tries: $(one_line "$said")"
		[ "$tries" -lt "$TRIES" ] || failed "$what: not after $tries tries: $(one_line "$said")"
		sleep 0.2
	done
	passed "$what"
}

# Succeeds when the command does and its output is another one than before: how a check knows a restarted server. What it
# complains of is no output: a server that is just being stopped says what it did before, and breaks off.
changed() {
	local before=$1 found
	shift
	found=$("$@") && [ -n "$found" ] && [ "$found" != "$before" ]
}

# Succeeds when the command's output is what is expected.
gives() {
	local wanted=$1 found
	shift
	found=$("$@" 2>&1)
	[ "$found" = "$wanted" ] || { echo "expected '$wanted', got '$found'"; return 1; }
}

restart() { echo "restart $1" >/run/bootmatrix/control || failed "restart $1: this check may not ask for it"; }

one_line() { printf '%s' "$1" | tr '\n' ' ' | tail -c 300; }

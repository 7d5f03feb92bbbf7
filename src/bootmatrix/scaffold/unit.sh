# Run by systemd. The check in a container beside it waits for the status.
mkdir -p /run/bootmatrix
exec >/run/bootmatrix/output 2>&1
number=0
passed() { number=$((number + 1)); echo "ok $number - $1"; }
failed() {
  number=$((number + 1)); echo "not ok $number - $1"
  systemctl status --no-pager --lines=20 "${2:-$UNIT}"
  finish 1
}
finish() {
  journalctl --no-pager --boot >/run/bootmatrix/journal.txt 2>&1
  echo "$1" >/run/bootmatrix/status.new && mv /run/bootmatrix/status.new /run/bootmatrix/status
  exit 0
}
is_active() { [ "$(systemctl is-active "$UNIT" 2>/dev/null)" = active ]; }
is_starting() { case $(systemctl is-system-running 2>/dev/null) in initializing | starting) ;; *) false ;; esac; }
since() { systemctl show --property=ActiveEnterTimestampMonotonic "$UNIT"; }
property() { systemctl show --value --property="$1" "$2"; }
# With RemainAfterExit, a unit whose processes have ended stays active: "running" becomes "exited".
is_now() { [ "$(property SubState "$UNIT")" = "$1" ]; }
# Such as `x.service failed: exit-code, status 3`, with the results of systemd.exec(5).
state_of() {
  state=$(property ActiveState "$1") result=$(property Result "$1") status=$(property ExecMainStatus "$1")
  [ "$state" = failed ] || state="is $state"
  [ "$result" = success ] || state="$state: $result${status:+, status $status}"
  echo "$1 $state"
}
scale=$(sed -n 's/.*bootmatrix\.scale=\([0-9]\{1,4\}\).*/\1/p' /proc/cmdline)
now_s() { cut -d. -f1 /proc/uptime; }

UNIT='@UNIT@' STAYS_S=@STAYS_S@
echo "1..3"
end=
until is_active; do
  ! systemctl --quiet is-failed "$UNIT" || failed "$(state_of "$UNIT")"
  is_starting || end=${end:-$(($(now_s) + @LIMIT_S@ * ${scale:-1}))}
  [ -z "$end" ] || [ "$(now_s)" -lt "$end" ] || failed "$(state_of "$UNIT")"
  sleep 0.5
done
passed "$UNIT is active"
since=$(since) was_running=
! is_now running || was_running=yes
sleep $STAYS_S
is_active || failed "$(state_of "$UNIT")"
[ -z "$was_running" ] || ! is_now exited || failed "$UNIT is active, but its processes ended within $STAYS_S s"
[ "$(since)" = "$since" ] || failed "$UNIT was restarted within $STAYS_S s"
passed "$UNIT stays active for $STAYS_S s"
set -- $(systemctl list-units --state=failed --plain --no-legend | cut -d' ' -f1)
[ $# = 0 ] || failed "$(state_of "$1")${2:+, and so did $(shift && echo "$@")}" "$1"
passed "no unit failed"
finish 0

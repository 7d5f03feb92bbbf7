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
scale=$(sed -n 's/.*bootmatrix\.scale=\([0-9]\{1,4\}\).*/\1/p' /proc/cmdline)
now_s() { cut -d. -f1 /proc/uptime; }

UNIT='@UNIT@' STAYS_S=@STAYS_S@
echo "1..3"
end=
until is_active; do
  ! systemctl --quiet is-failed "$UNIT" || failed "$UNIT is active"
  is_starting || end=${end:-$(($(now_s) + @LIMIT_S@ * ${scale:-1}))}
  [ -z "$end" ] || [ "$(now_s)" -lt "$end" ] || failed "$UNIT is active"
  sleep 0.5
done
passed "$UNIT is active"
since=$(since)
sleep $STAYS_S
is_active && [ "$(since)" = "$since" ] || failed "$UNIT stays active for $STAYS_S s"
passed "$UNIT stays active for $STAYS_S s"
units=$(systemctl list-units --state=failed --plain --no-legend | cut -d' ' -f1)
[ -z "$units" ] || failed "no unit failed: $(echo $units)" "$(echo "$units" | head -n 1)"
passed "no unit failed"
finish 0

# Limits are for the fastest machine: bootmatrix.scale is this one's factor.
scale=$(sed -n 's/.*bootmatrix\.scale=\([0-9]\{1,4\}\).*/\1/p' /proc/cmdline)
scale=${scale:-1}
number=0
passed() { number=$((number + 1)); echo "ok $number - $1"; }
failed() { number=$((number + 1)); echo "not ok $number - $1"; exit 1; }

# 0A is the state LISTEN: include/net/tcp_states.h
listens() {
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port=":$(printf %04X "$PORT")" '
    $4 == "0A" && substr($2, length($2) - 4) == port { found = 1 }
    END { exit !found }'
}

get() { timeout $((5 * scale)) wget -q -O /dev/null "$1"; }
answers() {
  if [ -n "$URL" ]; then get "$URL" || get "http://[::1]${URL#http://127.0.0.1}"; else listens; fi
}

[ -z "$URL$PORT" ] || echo "1..3"
[ -n "$URL$PORT" ] || echo "1..1"
if [ -n "$URL$PORT" ]; then
  tries=0
  until answers 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt $((@ANSWER_S@ * 2 * scale)) ] || { answers; failed "it answers at ${URL:-port $PORT}"; }
    sleep 0.5
  done
  passed "it answers at ${URL:-port $PORT}"
fi
sleep "$STAYS_S"
passed "it stays up for $STAYS_S s"
if [ -n "$URL$PORT" ]; then
  answers || failed "it still answers"
  passed "it still answers"
fi

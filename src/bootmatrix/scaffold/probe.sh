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

# A redirect to TLS or to another host is an answer, too. Nobody here can follow it.
leads_elsewhere() {
  awk '
    $1 ~ /^HTTP\// { status = $2; place = "" }
    tolower($1) == "location:" { place = tolower($2) }
    END { exit !(status ~ /^3/ && place ~ /^(https?:)?\/\// && place !~ /^(http:)?\/\/(127\.0\.0\.1|localhost|\[::1\])([:\/]|$)/) }'
}

# What wget says of a request that fails, in other words. `timeout` ends it, since -T crashes (docs/findings.md).
fault_of() {
  case $1:$2 in
    124:* | 143:*) echo "no answer within $((5 * scale)) s" ;;
    *'returned error: HTTP'*) echo "$(echo "$2" | sed -n 's/.*returned error: HTTP[^ ]*/HTTP status/p') (expected 2xx)" ;;
    *refused*) echo "connection refused" ;;
    *reset*) echo "connection reset" ;;
    *'error getting response'*) echo "connection closed without an HTTP response" ;;
    *) echo "${2:-wget ended with status $1}" | tr '\n' ' ' | tail -c 200 ;;
  esac
}

# These set `fault` to the reason if there is no answer.
get() {
  said=$(timeout $((5 * scale)) wget -qS -O /dev/null "$1" 2>&1) || {
    fault=$(fault_of $? "$(echo "$said" | sed '/^  /d')") # without the lines of headers
    echo "$said" | leads_elsewhere
  }
}
answers() {
  if [ -z "$URL" ]; then
    listens || { fault="connection refused, as nothing listens there"; false; }
    return
  fi
  ! get "$URL" || return 0
  first=$fault
  ! get "http://[::1]${URL#http://127.0.0.1}" || return 0
  case $first:$fault in
    *refused:HTTP* | *refused:'no answer'* | *refused:*reset | *refused:*response) ;;
    *) fault=$first ;;
  esac
  false
}
now_s() { cut -d. -f1 /proc/uptime; }

what="it answers at ${URL:-port $PORT}"
[ -n "$URL$PORT" ] && echo "1..3" || echo "1..1"
if [ -n "$URL$PORT" ]; then
  limit_s=$((@ANSWER_S@ * scale)) end=$(($(now_s) + @ANSWER_S@ * scale))
  until answers; do
    [ "$(now_s)" -lt "$end" ] || failed "$what: not within $limit_s s: $fault"
    sleep 0.5
  done
  passed "$what"
fi
sleep "$STAYS_S"
passed "it stays up for $STAYS_S s"
if [ -n "$URL$PORT" ]; then
  answers || failed "it still answers: $fault"
  passed "it still answers"
fi


# What the kernel's own tests reported: by suite where it has KUNIT_DEBUGFS, else from its log.
if [ -d /sys/kernel/debug/kunit ]; then
  cat /sys/kernel/debug/kunit/*/results 2>/dev/null
else
  dmesg | sed 's/^<[0-9]*>//; s/^\[[^]]*\] //'
fi | grep -E '^ *(K?TAP version [0-9]|1\.\.[0-9]|(not )?ok [0-9]|# Subtest: |# .*ION FAILED)' >/tmp/kunit
cat /tmp/kunit
grep -qE '^ *(not )?ok ' /tmp/kunit || {
  echo "not ok - no KUnit test ran: is CONFIG_KUNIT set, and does the filter match one?"
  exit 1
}

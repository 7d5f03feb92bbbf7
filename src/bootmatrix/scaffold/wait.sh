until [ -s /run/bootmatrix/status ]; do sleep 0.5; done
cat /run/bootmatrix/output
cp /run/bootmatrix/journal.txt /journal.txt
exit "$(cat /run/bootmatrix/status)"

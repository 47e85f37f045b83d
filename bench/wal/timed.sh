#!/bin/bash
# timed.sh LOG MARK COMMAND: runs a hook as PostgreSQL does, through sh in the data directory, and ends as it ends.
# Notes in LOG how long it took, in microseconds, and whether the file MARK was there before: then an earlier call had
# left the answer. Bash, since it knows the time without starting a program.
mark=-
[ -e "$2" ] && mark=marked
began=${EPOCHREALTIME/[.,]/}
sh -c "$3"
code=$?
ended=${EPOCHREALTIME/[.,]/}
echo "$((ended - began)) $mark $code" >>"$1"
exit $code

#!/bin/sh
# On-CPU profile of a running ringscrape: cpu.sh [PID [SECONDS [FILE]]]
set -eu
. "$(dirname "$0")/find.sh"
seconds=${2:-20}
file=${3:-$(mktemp -t ringscrape-perf.XXXXXX)}
[ -n "${3:-}" ] || trap 'rm -f "$file"' EXIT
# Hardware cycles where there are some, else the CPU clock.
event=cycles
perf stat -e cycles true 2>&1 | grep -q "not supported" && event=cpu-clock
perf record -q -e "$event" -F 499 --call-graph fp -p "$pid" -o "$file" -- sleep "$seconds"
echo "== by thread"
perf report -i "$file" --stdio -q --no-children -g none --sort comm 2>/dev/null | sed '/^$/d' | head -20
echo "== by function"
perf report -i "$file" --stdio -q --no-children -g none --sort dso,symbol 2>/dev/null | sed '/^$/d' | head -50

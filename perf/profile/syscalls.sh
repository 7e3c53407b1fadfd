#!/bin/sh
# System calls of a running ringscrape by name: syscalls.sh [PID [SECONDS]]
set -eu
. "$(dirname "$0")/find.sh"
perf trace -s -p "$pid" -- sleep "${2:-5}"

# Sourced: sets pid to the first argument, or to the only process named ringscrape.
pid=${1:-}
if [ -z "$pid" ]; then
  pid=$(pgrep -x ringscrape) || { echo "no process named ringscrape" >&2; exit 1; }
  case $pid in *[!0-9]*) echo "several: $(echo $pid); give one" >&2; exit 1 ;; esac
fi
[ -d "/proc/$pid" ] || { echo "no process $pid" >&2; exit 1; }

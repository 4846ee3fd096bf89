#!/usr/bin/env bash
# Runs every fuzz target of the module for the time given (go's -fuzztime).
set -euo pipefail
time=${1:-10s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fuzz() { go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 20x "$1" >"$log" 2>&1; }

for pkg in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "fuzz $pkg $target $time"
		# The go tool now and then fails a run that found nothing, because its own time
		# was over while a worker still answered: on a busy machine more often, and twice
		# in a row. Only that is tried again.
		tries=1
		until fuzz "$pkg" "$target"; do
			if [ $tries -eq 10 ] || ! grep -q '^ *context deadline exceeded$' "$log" || grep -qE 'Failing input|seed corpus|panic' "$log"; then
				cat "$log"
				exit 1
			fi
			tries=$((tries + 1))
		done
	done
done

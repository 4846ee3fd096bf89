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
		# was over while a worker still answered. Only that is tried again.
		fuzz "$pkg" "$target" || {
			if grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log" && fuzz "$pkg" "$target"; then
				continue
			fi
			cat "$log"
			exit 1
		}
	done
done

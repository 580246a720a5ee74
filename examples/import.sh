#!/usr/bin/env bash
# Imports four files in four steps, with nothing but curl. Expects LADING, the service's address, and KEY, an API key.
set -euo pipefail
here=$(dirname "$0")
reply=$(mktemp)

api() {  # prints the reply, or, on a refusal, says on stderr why
  if curl -sS --fail-with-body --retry 5 --retry-connrefused -u "api:$KEY" -o "$reply" "$@"
  then cat "$reply"; else cat "$reply" >&2; return 1; fi
}

# 1. The control file says how the files are read and where their rows go.
control=$(api -F file=@"$here/flights.yaml" "$LADING/api/control")

# 2. A batch takes them in.
batch=$(api -F control="$control" -F comment="Some flights of 1 January 2013" "$LADING/api/batch")

# 3. Its files, in any order.
for name in airlines.csv airports.csv planes.csv flights.csv; do
  api -F batch="$batch" -F name="$name" -F file=@"$here/data/$name" "$LADING/api/file" > /dev/null
done

# 4. Go.
api -F batch="$batch" "$LADING/api/schedule" > /dev/null

# How it went: one line, as soon as it is done. And a receipt for every record.
api "$LADING/api/batch/$batch?wait=60" && echo
api "$LADING/api/batch/$batch/results" > results.csv
head -n 4 results.csv
grep ',Error,' results.csv || true

#!/usr/bin/env bash
# Imports files as a nightly job: nightly.sh CONTROL FILE... Expects LADING, the service's address, and KEY, an API key.
# Exits with 0 if all is well, with 2 if records were refused (and leaves them in FILE.failed), else with 1. Needs curl 7.76 or newer.
set -euo pipefail
control=$1 && shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

api() {  # prints the reply, or, on a refusal, says on stderr why; whatever fails is tried again, since every step may be repeated
  if curl -sS --fail-with-body --retry 5 --retry-all-errors -u "api:$KEY" -D "$folder/headers" -o "$folder/reply" "$@"
  then cat "$folder/reply"; else cat "$folder/reply" >&2 || true; return 1; fi
}

# The key makes one batch of it, even where the first reply is lost on its way and curl asks again.
batch=$(api -H "Idempotency-Key: $(date +%s)-$$" -d control="$control" -d comment="$(hostname)" "$LADING/api/batch")
for file in "$@"; do
  api -F batch="$batch" -F name="$(basename "$file")" -F file=@"$file" "$LADING/api/file" > /dev/null
done
api -d batch="$batch" "$LADING/api/schedule" > /dev/null

# Import-Exit is 3 as long as the batch is not finished.
exit_status=3
while [ "$exit_status" = 3 ]; do
  line=$(api "$LADING/api/batch/$batch?wait=60")
  exit_status=$(awk 'tolower($1) == "import-exit:" { found = $2 + 0 } END { print found }' "$folder/headers")
  [ "$exit_status" != 3 ] || sleep 1
done
echo "batch $batch: $line"
[ "$exit_status" != 0 ] || exit 0

api "$LADING/api/batch/$batch/errors" >&2
for file in "$@"; do
  api "$LADING/api/batch/$batch/failed/$(basename "$file")" > "$file.failed"
done
exit "$exit_status"

#!/usr/bin/env bash
# A night for cron: judges all baselines of a project, keeps what it found, and prints a summary where a person is
# needed. Cron mails what is printed.
#
#   17 2 * * *  /srv/baselines/nightly.sh /srv/baselines/project
#
# NIGHTS: where the nights are kept (default: outputs/nights in the project).
# RETRY_AFTER: seconds until what could not be had is asked for again, once (default: 3600).
set -uo pipefail

project=${1:?usage: nightly.sh PROJECT}
cd "$project" || exit
export PATH="$PWD/.venv/bin:$PATH"

nights=${NIGHTS:-outputs/nights}
mkdir -p "$nights"
# Two nights at once would share the GPUs.
exec 9> "$nights/.lock"
flock --nonblock 9 || { echo "the night before is still running"; exit 75; }

night="$nights/$(date --utc +%Y-%m-%dT%H%M%S)"
mkdir -p "$night"
gpus=$(nvidia-smi --list-gpus 2> /dev/null | wc -l)
workers=()
if [ "$gpus" -gt 0 ]; then
  workers=(-n "$gpus" --dist loadgroup)
fi

judge() {
  # The extended baselines take longer than a limit of pytest-timeout that is meant for tests.
  pytest -m "smoke or standard or extended" -o timeout=0 "${workers[@]}" --esa-output-dir "$night/baselines" \
    --junit-xml "$night/junit.xml" "$@" >> "$night/log.txt" 2>&1
}

status=0
judge || status=$?
if [ "$status" -eq 10 ]; then
  sleep "${RETRY_AFTER:-3600}"
  status=0
  # What was judged stands.
  judge --esa-resume || status=$?
fi

esa report "$night/baselines" --markdown --output "$night/report.html" > "$night/summary.md" 2>> "$night/log.txt"
ln --symbolic --force --no-dereference "$(basename "$night")" "$nights/last"

case "$status" in
  0) exit 0 ;;
  1) echo "DRIFTED: a baseline is not what it was, or a test failed" ;;
  10) echo "NOT JUDGED: models, memory or texts could not be had" ;;
  11) echo "BROKEN: a baseline came to no verdict" ;;
  *) echo "BROKEN: pytest ended with status $status; see $night/log.txt" ;;
esac
echo
cat "$night/summary.md"
exit "$status"

#!/usr/bin/env bash
# One BullMQ worker with a long stalledInterval delays the recovery of lost jobs for all other workers of its queue.
#
# stalledInterval is an option of each worker: how often it looks for jobs whose worker died. But a look is also a lock
# for all of them: it sets the key `stalled-check` in Redis for the looker's own interval, and any other worker that
# looks before the key expires returns at once and finds nothing. So the workers share one clock, and the longest
# interval among them decides it, not the shortest. A worker that sets 1 s, expecting lost jobs back within some
# seconds, waits for another's default of 30 s. A job needs two looks: one marks it, the next one moves it back.
#
# Versions: bullmq 6.7.0 with ioredis 5.11.1, Valkey 8.0.1.
# Seen, in each row one worker dies in the middle of a job, and another with an interval of 1 s takes the job over:
#           no third worker: 2 s      an idle third worker with an interval of 15 s, started before: 28 s
# Instead:  give all workers of a queue the same stalledInterval, and plan for twice that plus the lock's duration.
#
# Exit status: 0 as stated, 1 the behaviour has changed, 2 something needed is missing.
set -euo pipefail
missing() { echo "cannot run: $1" >&2; exit 2; }
command -v npm >/dev/null || missing "npm is not on PATH"
server=$(command -v valkey-server || command -v redis-server) || missing "neither valkey-server nor redis-server is on PATH"
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
npm install --prefix . --no-audit --no-fund --loglevel=error bullmq@6.7.0 ioredis@5.11.1 >npm.log 2>&1 ||
  missing "npm could not install the packages: $(head -n 1 npm.log)"
"$server" --port 0 --unixsocket "$work/socket" --save '' >server.log 2>&1 &
for _ in $(seq 50); do [ -S socket ] && break; sleep 0.1; done
[ -S socket ] || missing "the server did not start: $(tail -n 1 server.log)"

# worker.mjs QUEUE INTERVAL_MS: takes jobs; says so. Killed while it holds one, it leaves the job without an owner.
cat >worker.mjs <<'JS'
import { Worker } from "bullmq";
const [queue, interval] = process.argv.slice(2);
const take = async () => {
  console.log("taken");
  await new Promise((resolve) => setTimeout(resolve, queue.endsWith("first") ? 600_000 : 10));
};
const worker = new Worker(process.env.QUEUE, take, {
  connection: { path: process.env.SOCKET },
  lockDuration: 2000,
  stalledInterval: Number(interval),
  autorun: queue !== "idle",
});
worker.on("error", () => {});
if (queue === "idle") await worker.startStalledCheckTimer();
console.log("ready");
JS
cat >add.mjs <<'JS'
import { Queue } from "bullmq";
const queue = new Queue(process.env.QUEUE, { connection: { path: process.env.SOCKET } });
await queue.add("job", {});
await queue.close();
JS

export SOCKET="$work/socket"
wait_for() { for _ in $(seq 900); do grep -q "$1" "$2" 2>/dev/null && return; sleep 0.1; done; echo "no \"$1\" within 90 s" >&2; exit 1; }

# recovery NAME [INTERVAL of an idle worker]: whole seconds from the death of a job's worker to the job's next start
recovery() {
  export QUEUE=$1
  if [ -n "${2:-}" ]; then
    node worker.mjs idle "$2" >"$1-idle.log" 2>&1 &
    local idle=$!
    wait_for ready "$1-idle.log"
  fi
  node worker.mjs first 1000 >"$1-first.log" 2>&1 &
  local first=$!
  wait_for ready "$1-first.log"
  node add.mjs
  wait_for taken "$1-first.log"
  kill -9 $first
  wait $first 2>/dev/null || true
  local begin=$SECONDS
  node worker.mjs second 1000 >"$1-second.log" 2>&1 &
  local second=$!
  wait_for taken "$1-second.log"
  elapsed=$((SECONDS - begin))
  kill $second ${idle:-} 2>/dev/null || true
}

recovery alone
alone=$elapsed
recovery beside 15000
beside=$elapsed
echo "no third worker: $alone s      an idle third worker with an interval of 15 s, started before: $beside s"
[ "$alone" -le 8 ] && [ "$beside" -ge 12 ]

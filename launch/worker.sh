#!/usr/bin/env bash
# Runs on a worker: starts one command so that it outlives the connection, and tells how it fares.
#
#   worker.sh start FOLDER ATTEMPT INDEX COUNT COORDINATOR
#   worker.sh poll FOLDER ATTEMPT OFFSET
#       first line: running|exited|lost|absent END [STATUS ENDED]; then the log from byte OFFSET to END
#   worker.sh tail FOLDER ATTEMPT LINES
#   worker.sh stop FOLDER SECONDS          SIGTERM to all, after SECONDS SIGKILL
#
# FOLDER has command.sh, job.env and secrets.env; the latter is deleted as soon as it is read.
set -eu

# The group of the command that was started here, if it lives: a process id of another boot means nothing.
group() {
  [ -f process ] || return 1
  read -r pid boot <process
  [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] && kill -0 -- "-$pid" 2>/dev/null && echo "$pid"
}

# Only the first end counts: `stop` and the supervisor may both come to write it.
ended() {
  [ -f "status-$1" ] && return
  echo "$2 $(date +%s.%N)" >"status-$1.$$.tmp"
  mv -n "status-$1.$$.tmp" "status-$1"
  rm -f "status-$1.$$.tmp"
}

start() {
  local attempt=$1 running
  [ -f "status-$attempt" ] && return 0
  if running=$(group); then
    [ "$(cat attempt)" = "$attempt" ] && return 0
    echo "another command still runs here (process group $running): humpback launch stop" >&2
    return 3
  fi
  # A TPU process that was killed leaves its lock behind, and the next one fails on it.
  if [ -e /tmp/libtpu_lockfile ] && ! fuser -s /tmp/libtpu_lockfile 2>/dev/null; then
    rm -f /tmp/libtpu_lockfile 2>/dev/null || true
  fi
  echo "$attempt" >attempt
  : >"log-$attempt"
  setsid bash "$PWD/worker.sh" supervise "$PWD" "$@" </dev/null >>"log-$attempt" 2>&1 &
  echo "$! $(cat /proc/sys/kernel/random/boot_id)" >process.tmp
  mv process.tmp process
  # Until it has a group of its own it could not be seen, and would be taken for lost, or started twice.
  while ! kill -0 -- "-$!" 2>/dev/null && kill -0 "$!" 2>/dev/null; do
    sleep 0.02
  done
}

supervise() {
  local attempt=$1 status=0
  # The command gets SIGTERM with the whole group; this shell must live on to write down how it ended.
  trap : TERM HUP
  if [ "$3" -gt 1 ]; then
    export HUMPBACK_PROCESS_INDEX=$2 HUMPBACK_PROCESS_COUNT=$3 HUMPBACK_COORDINATOR=$4
  fi
  set -a
  # shellcheck disable=SC1091
  . ./job.env
  if [ -f secrets.env ]; then
    # shellcheck disable=SC1091
    . ./secrets.env
    rm -f secrets.env
  fi
  set +a
  bash ./command.sh || status=$?
  ended "$attempt" "$status"
}

state() {
  if [ "$(cat attempt 2>/dev/null)" != "$1" ]; then
    echo absent
  elif [ ! -f "status-$1" ] && group >/dev/null; then
    echo running
  elif [ -f "status-$1" ]; then # looked at last: it may have ended between the two looks
    echo exited
  else
    echo lost
  fi
}

poll() {
  local attempt=$1 offset=$2 state end=0 how=
  # The state first: what a command that has ended wrote is all there.
  state=$(state "$attempt")
  [ "$state" = exited ] && how=$(cat "status-$attempt")
  if [ -f "log-$attempt" ]; then
    end=$(stat -c %s "log-$attempt")
  fi
  [ "$end" -gt $((offset + 262144)) ] && end=$((offset + 262144))
  [ "$end" -lt "$offset" ] && end=$offset
  echo "$state $end $how"
  [ "$end" -eq "$offset" ] || tail -c "+$((offset + 1))" "log-$attempt" | head -c $((end - offset))
}

tail_() {
  [ ! -f "log-$1" ] || tail -n "$2" "log-$1"
}

stop() {
  local seconds=$1 running
  running=$(group) || return 0
  kill -TERM -- "-$running" 2>/dev/null || true
  while [ "$seconds" -gt 0 ] && group >/dev/null; do
    sleep 1
    seconds=$((seconds - 1))
  done
  if group >/dev/null; then
    ended "$(cat attempt)" 137
    kill -KILL -- "-$running" 2>/dev/null || true
    rm -f status-*.tmp # of a supervisor that was killed while it wrote
  fi
}

verb=$1
cd "$2"
shift 2
case $verb in
  start | supervise | poll | stop) "$verb" "$@" ;;
  tail) tail_ "$@" ;;
  *)
    echo "worker.sh: unknown verb $verb" >&2
    exit 2
    ;;
esac

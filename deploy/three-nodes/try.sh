#!/bin/bash
# The whole of it on one machine: three RabbitMQ nodes, PostgreSQL, an S3 server, a gateway and two workers, from the files beside
# this script; then the broker's leader and a worker are killed in the middle of pictures, and every picture comes all the same.
#
#   deploy/three-nodes/try.sh         needs rabbitmq-server and postgresql (Debian's), and the .venv of `make test`; takes two minutes
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python} rclone=$(dirname "${PYTHON:-$root/.venv/bin/python}")/rclone
work=$(mktemp -d /tmp/atelier-three-XXXXXX)
programs=/usr/lib/rabbitmq/bin
cd "$work"
port() { "$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
say() { printf '\n== %s\n' "$*"; }
declare -A pid
finish() {
  status=$?
  kill -9 "${pid[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  if [ $status = 0 ]; then rm -rf "$work"; else echo "it failed; what was said is in $work" >&2; fi
}
trap finish EXIT

say "three RabbitMQ nodes"
epmd=$(port) cookie=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
/usr/bin/epmd -address 127.0.0.1 -port "$epmd" & pid[epmd]=$!
declare -A amqp dist
for n in 1 2 3; do amqp[$n]=$(port) dist[$n]=$(port); mkdir -p "$work/rabbit$n"; done
settings_of() { # n: the environment of a node, in `given`
  given=(PATH="$PATH" HOME="$work/rabbit$1" ERL_EPMD_PORT="$epmd" ERL_EPMD_ADDRESS=127.0.0.1 RUNNING_UNDER_SYSTEMD=1 LC_ALL=C.UTF-8
    RABBITMQ_NODENAME="rabbit$1@localhost" RABBITMQ_NODE_PORT="${amqp[$1]}" RABBITMQ_DIST_PORT="${dist[$1]}"
    RABBITMQ_MNESIA_BASE="$work/rabbit$1" RABBITMQ_LOG_BASE="$work/rabbit$1" RABBITMQ_LOGS=- RABBITMQ_CONF_ENV_FILE=/none
    RABBITMQ_CONFIG_FILE="$work/rabbit$1/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$work/rabbit$1/plugins")
}
start_rabbit() { settings_of "$1"; env -i "${given[@]}" "$programs/rabbitmq-server" >>"$work/rabbit$1.log" 2>&1 & pid[rabbit$1]=$!; }
ctl() { settings_of "$1"; env -i "${given[@]}" "$programs/rabbitmqctl" -q "${@:2}"; }
awake() { for _ in $(seq 120); do if ctl "$1" await_startup >/dev/null 2>&1; then return; fi; sleep 0.5; done; false; }
for n in 1 2 3; do
  printf %s "$cookie" >"$work/rabbit$n/.erlang.cookie"; chmod 400 "$work/rabbit$n/.erlang.cookie"
  echo '[].' >"$work/rabbit$n/plugins"
  sed "s/= 5672/= 127.0.0.1:${amqp[$n]}/; s/rabbit@node\([123]\)/rabbit\1@localhost/" "$here/rabbitmq.conf" >"$work/rabbit$n/rabbitmq.conf"
  start_rabbit "$n"
done
for n in 1 2 3; do awake "$n"; done
ctl 1 await_online_nodes 3 --timeout 120
ctl 1 add_user atelier a-password-for-a-trial
ctl 1 set_permissions atelier '.*' '.*' '.*'
ctl 1 set_policy mirrored '^image_generation' '{"ha-mode":"all"}' --apply-to queues

say "PostgreSQL"
pg=$(port) bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -1)")
as=(); if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=/tmp); fi
mkdir "$work/pg"; chmod 755 "$work"; if [ "$(id -u)" = 0 ]; then chown postgres "$work/pg"; fi
(cd "$work/pg" && "${as[@]}" "$bin/initdb" -D "$work/pg/data" -U atelier -A trust --no-instructions >/dev/null)
(cd "$work/pg" && exec "${as[@]}" "$bin/postgres" -D "$work/pg/data" -p "$pg" -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$work/pg") \
  >"$work/pg.log" 2>&1 & pid[pg]=$!
until "$bin/psql" -qh 127.0.0.1 -p "$pg" -U atelier postgres -c 'CREATE DATABASE atelier' 2>/dev/null; do sleep 0.2; done

say "an S3 server"
s3=$(port); mkdir -p "$work/s3/pictures"
"$rclone" serve s3 --addr "127.0.0.1:$s3" --auth-key trial-key,trial-secret "$work/s3" >"$work/s3.log" 2>&1 & pid[s3]=$!

say "a gateway and two workers"
tcp=$(port)
start_atelier() { # name role
  sed -e "s|^ATELIER_DATA_DIR=.*|ATELIER_DATA_DIR=$work/$1|; s|^DATABASE_URL=.*|DATABASE_URL=postgresql://atelier@127.0.0.1:$pg/atelier|" \
    -e "s|^RABBITMQ_HOST=.*|RABBITMQ_HOST=127.0.0.1:${amqp[1]},127.0.0.1:${amqp[2]},127.0.0.1:${amqp[3]}|" \
    -e "s|^RABBITMQ_PASS=.*|RABBITMQ_PASS=a-password-for-a-trial|; s|^AWS_ENDPOINT_URL=.*|AWS_ENDPOINT_URL=http://127.0.0.1:$s3|" \
    -e "s|^AWS_ACCESS_KEY_ID=.*|AWS_ACCESS_KEY_ID=trial-key|; s|^AWS_SECRET_ACCESS_KEY=.*|AWS_SECRET_ACCESS_KEY=trial-secret|" \
    -e "s|^ATELIER_TCP_LISTEN=.*|ATELIER_TCP_LISTEN=tcp:$tcp:interface=127.0.0.1|; s|^ATELIER_ROLE=.*|ATELIER_ROLE=$2|" \
    -e "s|^ATELIER_TOKENS=.*|ATELIER_TOKENS=shop:a-token-for-a-trial|" "$here/atelier.env" >"$work/$1.env"
  mkdir -p "$work/$1"
  (cd "$work/$1" && set -a && . "$work/$1.env" && ATELIER_HTTP_LISTEN=off ATELIER_JOB_LEASE=5 PYTHONPATH=$root exec "$python" -m atelier serve) \
    >>"$work/$1.log" 2>&1 & pid[$1]=$!
}
start_atelier gateway gateway; start_atelier worker1 worker; start_atelier worker2 worker
generate() { # name number: so many jobs
  mkdir -p "$work/$1"
  local prompts=(); for i in $(seq "$2"); do prompts+=("a red circle on a blue ground, $1 $i"); done
  (cd "$work/$1" && PYTHONPATH=$root ATELIER_SERVER="tcp:127.0.0.1:$tcp" ATELIER_TOKEN=a-token-for-a-trial "$python" -m atelier generate \
    "${prompts[@]}" --steps 40 >"$work/$1.out" 2>&1)
}
until grep -q 'listening on' "$work/gateway.log"; do sleep 0.2; done
generate warm 2
echo "two pictures by way of the queue: $(ls "$work"/s3/pictures/jobs/*/*.png | wc -l) in the bucket"

say "kill -9: the broker's leader, and a worker, in the middle of pictures"
for i in 1 2 3; do generate "batch$i" 4 & pid[batch$i]=$!; done
until grep -q job.taken_up "$work/worker2.log" && [ "$(grep -c job.taken_up "$work"/worker?.log | awk -F: '{n += $2} END {print n}')" -ge 4 ]; do sleep 0.1; done
leader=$(ctl 1 list_queues name leader --no-table-headers | awk '$1 == "atelier.jobs" {print substr($2, 7, 1)}')
kill -9 "${pid[rabbit$leader]}" "${pid[worker2]}"; unset "pid[worker2]"
for i in 1 2 3; do wait "${pid[batch$i]}"; unset "pid[batch$i]"; done
echo "all pictures came though rabbit$leader and worker2 were killed: $(ls "$work"/s3/pictures/jobs/*/*.png | wc -l) in the bucket"

say "both come back"
start_rabbit "$leader"; start_atelier worker2 worker
awake "$leader"
generate after 2
echo "$(ls "$work"/s3/pictures/jobs/*/*.png | wc -l) pictures; jobs by state:"
"$bin/psql" -h 127.0.0.1 -p "$pg" -U atelier -At atelier -c 'SELECT state, count(*) FROM jobs GROUP BY state'
say "good"

#!/usr/bin/env bash
# The services of dev/chaos: three brokers, a PostgreSQL and its asynchronous standby, each on a volume of its own that
# can be filled. Called by tests/chaos, which does the harm; this only starts, and cleans up.
#
#   cluster.sh up FOLDER PORT        starts all five; ports from PORT on, see below
#   cluster.sh kafka FOLDER PORT N   starts broker N again
#   cluster.sh postgres FOLDER PORT N    starts server N again
#   cluster.sh follow FOLDER PORT N M    makes server N anew as a standby of server M
#   cluster.sh down FOLDER PORT      kills what still runs and removes the volumes
#
# Ports: PORT+N broker N for brokers, PORT+10+N its controller, PORT+20+N its clients, PORT+30+N what its clients are
# told (a proxy of the test), PORT+40+N server N, PORT+50+N what its standby is told (another proxy).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
STATE=$ROOT/.services
ACTION=$1 FOLDER=$2 PORT=$3
READY_DEADLINE=120
VOLUME_BYTES=700m
KAFKA_PORT=$PORT
KAFKA_CONTROLLER_PORT=$PORT
POSTGRES_PORT=$PORT

# shellcheck source=dev/lib/common.sh
source "$ROOT/dev/lib/common.sh"
# shellcheck source=dev/lib/versions.sh
source "$ROOT/dev/lib/versions.sh"
# shellcheck source=dev/lib/kafka.sh
source "$ROOT/dev/lib/kafka.sh"
# shellcheck source=dev/lib/postgres.sh
source "$ROOT/dev/lib/postgres.sh"

broker() {
    KAFKA_NODE=$1
    KAFKA_PORT=$((PORT + KAFKA_NODE))
    KAFKA_CONTROLLER_PORT=$((PORT + 10 + KAFKA_NODE))
    KAFKA_VOTERS=1@127.0.0.1:$((PORT + 11)),2@127.0.0.1:$((PORT + 12)),3@127.0.0.1:$((PORT + 13))
    KAFKA_LISTENERS=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CLIENT://127.0.0.1:$((PORT + 20 + KAFKA_NODE))
    KAFKA_ADVERTISED=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CLIENT://127.0.0.1:$((PORT + 30 + KAFKA_NODE))
    KAFKA_REPLICAS=3 KAFKA_IN_SYNC_MIN=2 KAFKA_SEGMENT_BYTES=1048576
    kafka_place "$FOLDER/kafka-$KAFKA_NODE"
}

server() {
    POSTGRES_PORT=$((PORT + 40 + $1))
    POSTGRES_FOLDER=$FOLDER/postgres-$1
    POSTGRES_WAL_MAX=128MB
}

# A volume in memory, with an end.
volume() {
    mkdir -p "$1"
    mountpoint -q "$1" || mount -t tmpfs -o "size=$VOLUME_BYTES" seriatim-chaos "$1" ||
        die "could not mount a volume on $1: dev/chaos fills disks, and for that it must run as root"
}

follow() {
    # Through a proxy of the test, which must be there: it decides how far behind the standby is.
    local from=$((PORT + 50 + $2))
    server "$1"
    postgres_make_folder
    (cd "$POSTGRES_FOLDER" && as_postgres "$POSTGRES_PROGRAMS/pg_basebackup" --pgdata "$POSTGRES_FOLDER/data" \
        --checkpoint fast --write-recovery-conf --dbname "host=127.0.0.1 port=$from user=postgres") >&2
    postgres_launch
}

up() {
    local node
    chmod 0755 "$FOLDER"
    for node in kafka-1 kafka-2 kafka-3 postgres-1 postgres-2; do volume "$FOLDER/$node/data"; done
    postgres_need_package
    for node in 1 2 3; do broker $node && kafka_launch; done
    server 1
    postgres_create
    as_postgres tee --append "$POSTGRES_FOLDER/data/pg_hba.conf" >/dev/null \
        <<<"host replication all 127.0.0.1/32 trust"
    postgres_launch
    follow 2 1
    for node in 1 2 3; do broker $node && kafka_wait; done
}

down() {
    local node pid
    for node in 1 2 3; do
        broker $node
        process_runs "$KAFKA_PID" "$KAFKA_CONFIG" && kill -KILL "$(cat "$KAFKA_PID")"
    done
    for node in 1 2; do
        server $node
        if process_runs "$POSTGRES_FOLDER/data/postmaster.pid" "$POSTGRES_FOLDER/data"; then
            pid=$(head -n 1 "$POSTGRES_FOLDER/data/postmaster.pid")
            # One that is frozen or has no disk left cannot be asked.
            kill -CONT "$pid" && kill -QUIT "$pid"
        fi
    done
    for node in kafka-1 kafka-2 kafka-3 postgres-1 postgres-2; do
        mountpoint -q "$FOLDER/$node/data" || continue
        # Lazily: a process that is still ending must not keep the folder's name.
        umount --lazy "$FOLDER/$node/data"
    done
    rm -rf "$FOLDER"
}

case $ACTION in
    up) up ;;
    kafka) broker "$4" && kafka_start ;;
    postgres) server "$4" && postgres_launch ;;
    follow) follow "$4" "$5" ;;
    down) down ;;
    *) die "no action $ACTION" ;;
esac

# PostgreSQL servers from Debian's package, each in a folder of its own: the one of dev/services, or the pair of
# dev/chaos. Sourced. Which one the functions mean is in POSTGRES_PORT and POSTGRES_FOLDER.
# shellcheck shell=bash

POSTGRES_PROGRAMS=/usr/lib/postgresql/$POSTGRES_MAJOR/bin
# Of the one server; who has small volumes sets less.
POSTGRES_WAL_MAX=1GB
# Where the data lies is written down: it may have to lie elsewhere, see postgres_choose_folder.
POSTGRES_WHERE=$STATE/postgres-folder

postgres_answers() {
    if [ -x "$POSTGRES_PROGRAMS/pg_isready" ]; then
        "$POSTGRES_PROGRAMS/pg_isready" --quiet --host 127.0.0.1 --port "$POSTGRES_PORT" --timeout 2
    else
        # Without the package, whatever answers the request for encryption in the protocol's way is a PostgreSQL server.
        python3 - "$POSTGRES_PORT" 2>/dev/null <<'EOF'
import socket, struct, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2) as connection:
    connection.sendall(struct.pack(">ii", 8, 80877103))
    sys.exit(0 if connection.recv(1) in (b"S", b"N") else 1)
EOF
    fi
}

# The server refuses to run as root: then it runs as the package's own user.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid postgres --regid postgres --init-groups env HOME=/nonexistent "$@"
    else
        "$@"
    fi
}

postgres_need_package() {
    [ -x "$POSTGRES_PROGRAMS/postgres" ] && return
    if [ "$(id -u)" -eq 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        # The package would set up and start a server of its own; nobody asked for that one.
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    need_packages "postgresql-$POSTGRES_MAJOR"
    [ -x "$POSTGRES_PROGRAMS/postgres" ] || die "no PostgreSQL server in $POSTGRES_PROGRAMS"
}

# The server's user must be able to walk to its folder. A checkout under a closed folder (root's home, say) is not the
# place to loosen rights: the data goes to the machine's temporary folder instead, under a name made of the checkout's.
postgres_choose_folder() {
    if as_postgres test -x "$STATE"; then
        POSTGRES_FOLDER=$STATE/postgres
    else
        POSTGRES_FOLDER=/var/tmp/seriatim-postgres-$(printf '%s' "$ROOT" | sha256sum | cut -c1-12)
    fi
    echo "$POSTGRES_FOLDER" >"$POSTGRES_WHERE"
}

# Empty, and the server's own. What the data lies on may be a volume, which stays.
postgres_make_folder() {
    mkdir -p "$POSTGRES_FOLDER/data"
    find "$POSTGRES_FOLDER/data" -mindepth 1 -delete
    chmod 0700 "$POSTGRES_FOLDER" "$POSTGRES_FOLDER/data"
    [ "$(id -u)" -ne 0 ] || chown postgres:postgres "$POSTGRES_FOLDER" "$POSTGRES_FOLDER/data"
}

postgres_create() {
    say "creating PostgreSQL's folder $POSTGRES_FOLDER"
    postgres_make_folder
    (cd "$POSTGRES_FOLDER" && as_postgres "$POSTGRES_PROGRAMS/initdb" --pgdata "$POSTGRES_FOLDER/data" \
        --username postgres --encoding UTF8 --locale C.UTF-8 --auth trust --no-instructions >"$STATE/initdb.log" 2>&1) ||
        { tail -n 20 "$STATE/initdb.log" >&2; die "could not create PostgreSQL's folder $POSTGRES_FOLDER"; }
    # Loopback over TCP and nothing else: no socket file, no other address, no replication.
    as_postgres tee "$POSTGRES_FOLDER/data/pg_hba.conf" >/dev/null <<<"host all all 127.0.0.1/32 trust"
}

# The settings stand here and not in the folder, so that a change of them needs no new folder. fsync and
# synchronous_commit are on: a test of crashes against a database that forgets would prove nothing. Those of a caller
# come last, and so they hold.
postgres_settings() {
    # shellcheck disable=SC2086 # one word a setting
    printf -- '-c %s ' "port=$POSTGRES_PORT" listen_addresses=127.0.0.1 unix_socket_directories= fsync=on \
        synchronous_commit=on full_page_writes=on max_connections=200 shared_buffers=128MB "max_wal_size=$POSTGRES_WAL_MAX" \
        timezone=UTC log_lock_waits=on deadlock_timeout=1s ${SERIATIM_POSTGRES_SETTINGS:-}
}

postgres_start() {
    postgres_need_package
    postgres_choose_folder
    [ -f "$POSTGRES_FOLDER/data/PG_VERSION" ] || postgres_create
    postgres_launch
}

# Starts a server whose folder is there.
postgres_launch() {
    local log=$POSTGRES_FOLDER/server.log
    (cd "$POSTGRES_FOLDER" && as_postgres "$POSTGRES_PROGRAMS/pg_ctl" start --pgdata "$POSTGRES_FOLDER/data" --log "$log" \
        --wait --timeout "$READY_DEADLINE" --options "$(postgres_settings)" >"$STATE/pg_ctl.log" 2>&1 </dev/null 9>&-) ||
        { tail -n 40 "$log" "$STATE/pg_ctl.log" >&2; die "PostgreSQL did not start; is port $POSTGRES_PORT taken?"; }
    wait_until "$READY_DEADLINE" "PostgreSQL on port $POSTGRES_PORT" "$log" postgres_answers
}

postgres_stop() {
    local folder
    folder=$(cat "$POSTGRES_WHERE" 2>/dev/null) || return 0
    if process_runs "$folder/data/postmaster.pid" "$folder/data"; then
        # Open connections of a test that was killed must not delay the end, and its data goes next.
        (cd / && as_postgres "$POSTGRES_PROGRAMS/pg_ctl" stop --pgdata "$folder/data" --mode immediate --wait \
            --timeout 30 >&2) || die "could not stop PostgreSQL in $folder"
        say "postgres stopped"
    fi
    rm -rf "$folder" "$POSTGRES_WHERE"
}

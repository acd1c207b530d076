# Kafka and PostgreSQL as containers, where an engine answers. Sourced by dev/services.
# shellcheck shell=bash

# What was started one way is stopped the same way, even if an engine has come or gone since.
use_containers() {
    case ${SERIATIM_SERVICES:-auto} in
        native) return 1 ;;
        docker) return 0 ;;
        auto) ;;
        *) die "SERIATIM_SERVICES must be native, docker or auto" ;;
    esac
    if [ -e "$STATE/postgres-folder" ] || [ -e "$STATE/kafka" ]; then return 1; fi
    docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1
}

# The project's name carries the port: two checkouts on other ports do not meet.
compose() {
    KAFKA_IMAGE=$KAFKA_IMAGE POSTGRES_IMAGE=$POSTGRES_IMAGE KAFKA_PORT=$KAFKA_PORT POSTGRES_PORT=$POSTGRES_PORT \
        docker compose --project-name "seriatim-services-$KAFKA_PORT" --file "$ROOT/dev/services.compose.yml" "$@" 9>&-
}

containers_up() {
    compose up --detach --wait --wait-timeout "$PULL_DEADLINE" >&2 ||
        { compose logs --tail 40 >&2; die "the containers did not become ready"; }
    compose logs >"$STATE/containers.log" 2>&1 || true
    wait_until "$READY_DEADLINE" "Kafka on $KAFKA_ADDRESS" "$STATE/containers.log" kafka_answers
    wait_until "$READY_DEADLINE" "PostgreSQL on port $POSTGRES_PORT" "$STATE/containers.log" postgres_answers
}

containers_down() {
    compose down --volumes --timeout 10 >&2
}

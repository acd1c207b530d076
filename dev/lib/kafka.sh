# Kafka brokers in KRaft mode, from their Maven artifacts: the one of dev/services, or each of the three of dev/chaos.
# Sourced. Which broker the functions mean is in KAFKA_FOLDER, KAFKA_PORT and the settings below.
# shellcheck shell=bash

# Says where a broker keeps what it has.
kafka_place() {
    KAFKA_FOLDER=$1
    KAFKA_CONFIG=$KAFKA_FOLDER/server.properties
    KAFKA_LOG=$KAFKA_FOLDER/server.log
    KAFKA_PID=$KAFKA_FOLDER/pid
}

kafka_place "$STATE/kafka"
# Of one broker; who wants several sets these for each.
KAFKA_NODE=1
KAFKA_VOTERS=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
KAFKA_LISTENERS=PLAINTEXT://127.0.0.1:$KAFKA_PORT
KAFKA_ADVERTISED=PLAINTEXT://127.0.0.1:$KAFKA_PORT
KAFKA_REPLICAS=1
KAFKA_IN_SYNC_MIN=1
KAFKA_SEGMENT_BYTES=67108864
KAFKA_CLASSPATH=$STATE/kafka-classpath-$KAFKA_VERSION
# Any fixed id will do: a cluster's nodes know each other by their ports.
KAFKA_CLUSTER_ID=c2VyaWF0aW0tdGVzdHMtMQ

kafka_answers() {
    python3 "$ROOT/dev/lib/kafka_answers.py" 127.0.0.1 "$KAFKA_PORT" 2>/dev/null
}

kafka_need_java() {
    command -v java >/dev/null || need_packages openjdk-17-jre-headless
    command -v mvn >/dev/null || need_packages maven
}

# Resolves the artifacts once and remembers the class path, as long as the files that it names are there.
kafka_resolve() {
    if [ -s "$KAFKA_CLASSPATH" ]; then
        local jar whole=yes
        while read -r jar; do [ -f "$jar" ] || whole=no; done < <(tr ':' '\n' <"$KAFKA_CLASSPATH"; echo)
        [ $whole = yes ] && return
    fi
    say "resolving Kafka $KAFKA_VERSION"
    mvn --quiet --batch-mode -Dstyle.color=never --file "$ROOT/dev/kafka/pom.xml" \
        -Dkafka.version="$KAFKA_VERSION" -Dlog4j.version="$LOG4J_VERSION" \
        dependency:build-classpath -Dmdep.outputFile="$KAFKA_CLASSPATH.new" >&2 ||
        die "could not resolve Kafka $KAFKA_VERSION with Maven"
    mv "$KAFKA_CLASSPATH.new" "$KAFKA_CLASSPATH"
}

kafka_write_config() {
    cat >"$KAFKA_CONFIG" <<EOF
process.roles=broker,controller
node.id=$KAFKA_NODE
controller.quorum.voters=$KAFKA_VOTERS
listeners=$KAFKA_LISTENERS,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=$KAFKA_ADVERTISED
controller.listener.names=CONTROLLER
# Brokers speak with each other on PLAINTEXT; clients may have another way, on which a test can stand.
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$KAFKA_FOLDER/data
# A misspelt topic must fail, not appear.
auto.create.topics.enable=false
num.partitions=4
default.replication.factor=$KAFKA_REPLICAS
min.insync.replicas=$KAFKA_IN_SYNC_MIN
offsets.topic.replication.factor=$KAFKA_REPLICAS
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$KAFKA_REPLICAS
transaction.state.log.min.isr=$KAFKA_IN_SYNC_MIN
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$KAFKA_REPLICAS
share.coordinator.state.topic.min.isr=$KAFKA_IN_SYNC_MIN
# Tests join and leave groups all the time: no pause for members that are yet to come, and short sessions allowed.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A value of 1 MiB has to fit, with its key and headers.
message.max.bytes=1572864
log.segment.bytes=$KAFKA_SEGMENT_BYTES
log.cleaner.dedupe.buffer.size=8388608
EOF
}

kafka_start() {
    kafka_launch
    kafka_wait
}

# Starts the process and waits for nothing: of several brokers the first answers only once others are there.
kafka_launch() {
    kafka_need_java
    mkdir -p "$KAFKA_FOLDER"
    kafka_resolve
    kafka_write_config
    local classpath
    classpath=$(cat "$KAFKA_CLASSPATH")
    local java=(java -Xms128m -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$ROOT/dev/kafka/log4j2.xml"
        -cp "$classpath")
    [ -e "$KAFKA_FOLDER/data/meta.properties" ] ||
        "${java[@]}" kafka.tools.StorageTool format --ignore-formatted --cluster-id "$KAFKA_CLUSTER_ID" \
        --config "$KAFKA_CONFIG" >"$KAFKA_FOLDER/format.log" 2>&1 9>&- ||
        { tail -n 20 "$KAFKA_FOLDER/format.log" >&2; die "could not format Kafka's folder $KAFKA_FOLDER/data"; }
    # A session of its own and no open descriptor of ours: the broker outlives the shell that started it.
    setsid nohup "${java[@]}" kafka.Kafka "$KAFKA_CONFIG" >>"$KAFKA_LOG" 2>&1 </dev/null 9>&- &
    echo $! >"$KAFKA_PID"
}

kafka_wait() {
    wait_until "$READY_DEADLINE" "Kafka on port $KAFKA_PORT" "$KAFKA_LOG" kafka_ready_or_dead
}

# A broker that has ended will not answer any more: no use in waiting out the bound.
kafka_ready_or_dead() {
    kafka_answers && return
    # By number alone: until the child has become the broker, its command line is still that of this script.
    kill -0 "$(cat "$KAFKA_PID")" 2>/dev/null && return 1
    tail -n 40 "$KAFKA_LOG" >&2 || true
    die "Kafka ended while it was starting; is port $KAFKA_PORT or $KAFKA_CONTROLLER_PORT taken?"
}

kafka_stop() {
    if process_runs "$KAFKA_PID" "$KAFKA_CONFIG"; then
        local pid
        pid=$(cat "$KAFKA_PID")
        # Its data goes next, so there is nothing that an orderly end would save. It may also end by itself meanwhile.
        kill -KILL "$pid" 2>/dev/null || true
        wait_until 20 "the end of Kafka" "$KAFKA_LOG" kafka_gone
        say "kafka stopped"
    fi
    rm -rf "$KAFKA_FOLDER"
}

kafka_gone() { ! process_runs "$KAFKA_PID" "$KAFKA_CONFIG"; }

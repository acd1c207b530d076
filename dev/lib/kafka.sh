# A Kafka broker of one process in KRaft mode, from its Maven artifacts. Sourced by dev/services.
# shellcheck shell=bash

KAFKA_FOLDER=$STATE/kafka
KAFKA_CONFIG=$KAFKA_FOLDER/server.properties
KAFKA_LOG=$KAFKA_FOLDER/server.log
KAFKA_PID=$KAFKA_FOLDER/pid
KAFKA_CLASSPATH=$STATE/kafka-classpath-$KAFKA_VERSION
# Any fixed id will do: the cluster has one node and lives in one folder.
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
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$KAFKA_FOLDER/data
# A misspelt topic must fail, not appear.
auto.create.topics.enable=false
num.partitions=4
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Tests join and leave groups all the time: no pause for members that are yet to come, and short sessions allowed.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A value of 1 MiB has to fit, with its key and headers.
message.max.bytes=1572864
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=8388608
EOF
}

kafka_start() {
    kafka_need_java
    mkdir -p "$KAFKA_FOLDER"
    kafka_resolve
    kafka_write_config
    local classpath
    classpath=$(cat "$KAFKA_CLASSPATH")
    local java=(java -Xms128m -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$ROOT/dev/kafka/log4j2.xml"
        -cp "$classpath")
    "${java[@]}" kafka.tools.StorageTool format --ignore-formatted --cluster-id "$KAFKA_CLUSTER_ID" \
        --config "$KAFKA_CONFIG" >"$KAFKA_FOLDER/format.log" 2>&1 9>&- ||
        { tail -n 20 "$KAFKA_FOLDER/format.log" >&2; die "could not format Kafka's folder $KAFKA_FOLDER/data"; }
    # A session of its own and no open descriptor of ours: the broker outlives the shell that started it.
    setsid nohup "${java[@]}" kafka.Kafka "$KAFKA_CONFIG" >"$KAFKA_LOG" 2>&1 </dev/null 9>&- &
    echo $! >"$KAFKA_PID"
    wait_until "$READY_DEADLINE" "Kafka on $KAFKA_ADDRESS" "$KAFKA_LOG" kafka_ready_or_dead
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

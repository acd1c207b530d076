# Versions, pinned: whoever runs the tests runs them against the same broker and the same database. Sourced.
# shellcheck shell=bash disable=SC2034

KAFKA_VERSION=4.4.0
LOG4J_VERSION=2.24.3
POSTGRES_MAJOR=15
POSTGRES_IMAGE=postgres:15.14-bookworm
KAFKA_IMAGE=apache/kafka:$KAFKA_VERSION

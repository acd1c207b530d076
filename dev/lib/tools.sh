# What the tests need besides the services: a C tool chain, a Kafka client that is not ours, helm. Sourced, not run.
# Each is installed into .services/ or with apt, once, in a pinned version. Needs ROOT, STATE and common.sh.
# shellcheck shell=bash

HELM_VERSION=v3.22.0
HELM_KUBERNETES_MINOR=34
CONFLUENT_KAFKA_VERSION=2.16.1

# librdkafka is built from its source, which the crate brings, against the system's OpenSSL and zlib; zstd and SQLite
# are compiled from sources that their crates bring. No cmake: the crate's own configure script builds it.
tools_for_building() {
    need_packages build-essential pkg-config libssl-dev zlib1g-dev
    command -v cargo >/dev/null || die "cargo is missing: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' \
        "$ROOT/Cargo.toml") or newer"
}

# The end-to-end test produces with a client in another language: agreement with ourselves would prove little.
tools_python_client() {
    local folder=$STATE/venv mark=$STATE/venv/confluent-kafka-$CONFLUENT_KAFKA_VERSION
    if [ ! -e "$mark" ]; then
        say "installing the Python client of Kafka $CONFLUENT_KAFKA_VERSION"
        rm -rf "$folder"
        python3 -c 'import ensurepip' 2>/dev/null || need_packages python3-venv
        python3 -m venv "$folder"
        "$folder/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: \
            "confluent-kafka==$CONFLUENT_KAFKA_VERSION" >&2 || die "could not install confluent-kafka with pip"
        touch "$mark"
    fi
    export SERIATIM_TEST_PYTHON=$folder/bin/python
}

# A helm that is there already will do, as long as it is named; else the pinned one is built from its module.
tools_helm() {
    if [ -n "${SERIATIM_TEST_HELM:-}" ]; then return; fi
    local folder=$STATE/bin
    export SERIATIM_TEST_HELM=$folder/helm
    [ "$("$SERIATIM_TEST_HELM" version --template '{{.Version}}' 2>/dev/null)" = "$HELM_VERSION" ] && return
    command -v go >/dev/null ||
        die "the chart's test needs helm: install Go and run dev/test again, or name a helm in SERIATIM_TEST_HELM"
    say "building helm $HELM_VERSION"
    # What helm's own build stamps in: its version, and the Kubernetes it renders for when nobody says which.
    local module=helm.sh/helm/v3
    local stamps="-X $module/internal/version.version=$HELM_VERSION
        -X $module/pkg/chartutil.k8sVersionMajor=1 -X $module/pkg/chartutil.k8sVersionMinor=$HELM_KUBERNETES_MINOR
        -X $module/pkg/lint/rules.k8sVersionMajor=1 -X $module/pkg/lint/rules.k8sVersionMinor=$HELM_KUBERNETES_MINOR"
    GOBIN=$folder GOFLAGS='' CGO_ENABLED=0 go install -ldflags "-s -w $stamps" \
        "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" >"$STATE/helm-build.log" 2>&1 ||
        { tail -n 20 "$STATE/helm-build.log" >&2; die "could not build helm"; }
}

# Builds the worker and leaves only it, its topics' manifests and the libraries that it links in the image.
FROM rust:1.95-slim-bookworm AS build

# librdkafka is compiled from source against the system's OpenSSL and zlib.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential libssl-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /build
# A first build of the dependencies alone: they change seldom, and a changed source file does not compile them again.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo build --locked --release \
    && rm -rf src

COPY src src
COPY migrations migrations
# The placeholders above are newer than sources that were checked out earlier.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --locked --release \
    && strip target/release/seriatim


FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /srv/seriatim
COPY --from=build /build/target/release/seriatim /usr/local/bin/seriatim
COPY topics topics

# Memory that was freed goes back after so many milliseconds instead of a second: a worker that has met a burst of large
# records is a third smaller by that.
ENV MIMALLOC_PURGE_DELAY=10

# A number, so that Kubernetes can see that it is not root without looking into the image.
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/seriatim"]
CMD ["run"]

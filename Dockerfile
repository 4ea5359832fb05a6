# The image: the program, the few files of Debian that it needs, and nothing else. docs/image.md says how to build it.
ARG RUST_IMAGE=rust:1.95-bookworm

FROM ${RUST_IMAGE} AS tools
ARG CARGO_CYCLONEDX_VERSION=0.5.9
RUN cargo install --locked --root /tools "cargo-cyclonedx@${CARGO_CYCLONEDX_VERSION}"

# The dependencies, built for an empty program: done anew only when they change.
FROM ${RUST_IMAGE} AS dependencies
WORKDIR /outpost
COPY Cargo.toml Cargo.lock ./
COPY image/build image/
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs && image/build

FROM dependencies AS build
COPY migrations migrations
COPY src src
# What comes from the context may be older than the empty program, and cargo goes by the time.
RUN touch src/lib.rs src/main.rs && image/build

FROM build AS root
COPY --from=tools /tools/bin/ /usr/local/cargo/bin/
# It reads the lists of crates, and does not get into the image.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends jq && rm -rf /var/lib/apt/lists/*
COPY LICENSE ./
COPY image/root image/
ARG SOURCE_DATE_EPOCH
RUN image/root /image

FROM scratch
COPY --from=root /image/ /
ARG VERSION
ARG REVISION
ARG RUST_IMAGE
ARG RUST_DIGEST
LABEL org.opencontainers.image.title="Outpost" \
      org.opencontainers.image.description="Starts Jupyter servers on this machine or cluster for remote JupyterHubs" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUST_IMAGE}" \
      org.opencontainers.image.base.digest="${RUST_DIGEST}"
# A folder below the volume, since Outpost wants its folder for itself, and a volume's root is never that.
ENV OUTPOST_STATE_DIR=/var/lib/outpost/state
USER 65532:65532
EXPOSE 8080 8081 2222
ENTRYPOINT ["/usr/local/bin/outpost"]
CMD ["serve"]

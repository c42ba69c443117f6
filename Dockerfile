# Crossfade in a container: docker build -t crossfade . && docker run -p 6432:6432 \
#   -e CROSSFADE_UPSTREAM=postgres://owner@db:5432/app crossfade

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
RUN cargo build --release --locked --bin crossfade

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin crossfade
COPY --from=build /src/target/release/crossfade /usr/local/bin/crossfade
USER 10001
ENV CROSSFADE_LISTEN=0.0.0.0:6432
EXPOSE 6432
# Asks the admin port inside the container, which listens on loopback only.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["crossfade", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["crossfade"]
CMD ["run"]

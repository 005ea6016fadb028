# The image of the server, built from a clone of this repository. It contains only the server.
#
#   docker build -t inbox .        or: podman build -t inbox .
#
# scripts/packaging/Containerfile puts the released binary into an image instead.
FROM docker.io/library/golang:1.26 AS build
WORKDIR /src
COPY . .
ENV CGO_ENABLED=0
# The version comes from the commits. A worktree or an archive has none.
RUN git rev-parse HEAD >/dev/null 2>&1 || go env -w GOFLAGS=-buildvcs=false; \
    go build -trimpath -ldflags '-s -w' -o /image/inbox ./cmd/inbox && mkdir -m 700 /image/state

FROM scratch
COPY --from=build /image/inbox /app/inbox
# The state directory belongs to the user below, and so does a named volume mounted there.
# Without a writable volume the server keeps no state.
COPY --from=build --chown=65532:65532 /image/state /var/lib/inbox
ENV STATE_DIRECTORY=/var/lib/inbox
USER 65532:65532
WORKDIR /app
EXPOSE 3000 3478/udp
# Podman stores it only with --format docker.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["./inbox", "health"]
CMD ["./inbox"]

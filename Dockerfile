# The worker: the release program with git and the Go toolchain, which it needs to fetch,
# test and build a revision. A worker that runs no tests and builds does not need them.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# docker build --build-arg VERSION=v0.1.0 --build-arg COMMIT="$(git rev-parse HEAD)": for `release version`.
ARG VERSION COMMIT
# Slim: a worker needs no Temporal, Web UI or simulated Fly of its own.
RUN CGO_ENABLED=0 go build -tags slim -trimpath -buildvcs=false -o /out/release -ldflags="-s -w \
      -X github.com/microbima/release/internal/version.tag=$VERSION \
      -X github.com/microbima/release/internal/version.commit=$COMMIT" ./cmd/release

# The base has git, ssh and the Go toolchain.
FROM golang:1.26.8-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends dumb-init=1.2.5-2 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 65532 release
COPY --from=build /out/release /usr/local/bin/release
USER release
# HOME has mirrors, modules and the build cache: mount a volume there.
ENV HOME=/home/release GOPATH=/home/release/go
WORKDIR /home/release
# dumb-init reaps the orphaned processes of tests and compilers.
ENTRYPOINT ["dumb-init", "--", "release"]
CMD ["worker"]

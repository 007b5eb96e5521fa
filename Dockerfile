# The worker: the release program with what it needs to test and build a
# revision. There is a compiler in it on purpose. Tests run as the project's
# release.toml says, and Go apps are compiled by the Go toolchain; git brings the
# source. A worker that only touches Fly and leaves tests and builds to others needs
# none of that.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# docker build --build-arg VERSION=v0.1.0 --build-arg COMMIT="$(git rev-parse HEAD)": what `release version` says.
ARG VERSION COMMIT
# Slim: a worker needs no Temporal, Web UI or simulated Fly of its own.
RUN CGO_ENABLED=0 go build -tags slim -trimpath -buildvcs=false -o /out/release -ldflags="-s -w \
      -X github.com/microbima/release/internal/version.tag=$VERSION \
      -X github.com/microbima/release/internal/version.commit=$COMMIT" ./cmd/release

# This base brings git, ssh and the Go toolchain.
FROM golang:1.26.8-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends dumb-init=1.2.5-2 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 65532 release
COPY --from=build /out/release /usr/local/bin/release
USER release
# Mirrors, modules and the build cache: keep it on a volume.
ENV HOME=/home/release GOPATH=/home/release/go
WORKDIR /home/release
# What tests and compilers leave behind has to be collected by somebody.
ENTRYPOINT ["dumb-init", "--", "release"]
CMD ["worker"]

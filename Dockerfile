# One image a binary, chosen by --build-arg BINARY=manager or BINARY=receiver.
#
# From source (the default):     docker build --build-arg BINARY=manager .
# From binaries built before:    make build GOOS=linux CGO_ENABLED=0, then
#                                docker build --build-arg BINARY=manager --build-arg FROM=prebuilt .
ARG FROM=source

FROM --platform=$BUILDPLATFORM golang:1.26 AS source
ARG BINARY=manager
ARG VERSION=dev
ARG TARGETOS
ARG TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /firebreak ./cmd/${BINARY}

FROM scratch AS prebuilt
ARG BINARY=manager
COPY bin/${BINARY} /firebreak

FROM ${FROM} AS binary

# Whom the action `http` trusts outside the cluster.
FROM --platform=$BUILDPLATFORM golang:1.26 AS certificates

# Static binaries: nothing else is in the image, no shell and no other files. The clock needs
# no time zones.
FROM scratch
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binary /firebreak /firebreak
USER 65532:65532
ENTRYPOINT ["/firebreak"]

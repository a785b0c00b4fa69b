# All images, with one compilation for each platform. From the folder above:
#   docker buildx bake -f docker/docker-bake.hcl --push        with REGISTRY=ghcr.io/OWNER, VERSION=1.2.3
#   docker buildx bake -f docker/docker-bake.hcl --load --set '*.platform=linux/amd64' --set '*.attest='    for this machine

variable "REGISTRY" {
  description = "Where images are pushed to, as the charts' `image.registry` names it; `localhost` is nobody's"
  default     = "localhost"
}

variable "VERSION" {
  description = "The tag: that of the charts, unless they are told another"
  default     = "0.1.0"
}

variable "REVISION" {
  description = "The commit that is built"
  default     = ""
}

variable "SOURCE" {
  description = "Where the source code is found"
  default     = ""
}

variable "BASE" {
  description = "The image below: a mirror of it, or one that is fixed by its digest"
  default     = "gcr.io/distroless/cc-debian12:nonroot"
}

group "default" {
  targets = ["image"]
}

target "image" {
  name = bin
  matrix = {
    bin = [
      "rollcall",
      "postgres-init",
      "topic-provisioner",
      "secret-syncer",
      "wait-for-dependency",
      "telemetry-exporter",
    ]
  }
  context    = "."
  dockerfile = "docker/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = ["${REGISTRY}/rollcall/${bin}:${VERSION}"]
  args = {
    BASE     = BASE
    BIN      = bin
    VERSION  = VERSION
    REVISION = REVISION
    SOURCE   = SOURCE
  }
  # A registry reads the index of an image of several platforms, not the labels below it.
  annotations = [
    "index,manifest:org.opencontainers.image.title=${bin}",
    "index,manifest:org.opencontainers.image.licenses=Apache-2.0",
    "index,manifest:org.opencontainers.image.version=${VERSION}",
    "index,manifest:org.opencontainers.image.revision=${REVISION}",
    "index,manifest:org.opencontainers.image.source=${SOURCE}",
  ]
  attest = [
    "type=sbom",
    "type=provenance,mode=max",
  ]
}

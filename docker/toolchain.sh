#!/bin/sh
# What compiles for a platform of an image on the machine that builds it, which may be of another:
#   toolchain install ARCH            fetches it
#   toolchain run ARCH COMMAND...     runs a command that compiles
#   toolchain collect ARCH FOLDER     copies the programs that were compiled
set -eu
verb=$1 arch=$2
shift 2
case "$arch" in
    amd64) gnu=x86_64-linux-gnu package=x86-64-linux-gnu ;;
    arm64) gnu=aarch64-linux-gnu package=aarch64-linux-gnu ;;
    *) echo "there are no images for $arch: choose amd64 or arm64" >&2; exit 1 ;;
esac
rust=$(echo "$gnu" | sed s/-linux/-unknown-linux/)

case "$verb" in
    install)
        rustup target add "$rust"
        if ! command -v "$gnu-gcc" >/dev/null; then
            apt-get update
            apt-get install -y --no-install-recommends "g++-$package" "libc6-dev-$arch-cross"
            rm -rf /var/lib/apt/lists/*
        fi
        ;;
    run)
        export CARGO_BUILD_TARGET="$rust"
        export "CARGO_TARGET_$(echo "$rust" | tr 'a-z-' 'A-Z_')_LINKER=$gnu-gcc"
        # The script that configures librdkafka knows only these, and must not find what the image that builds has for
        # itself. What runs here is compiled by `cc`.
        export CC="$gnu-gcc" CXX="$gnu-g++" AR="$gnu-ar" LD="$gnu-ld" NM="$gnu-nm" RANLIB="$gnu-ranlib" STRIP="$gnu-strip"
        export HOST_CC=cc HOST_CXX=c++ HOST_AR=ar PKG_CONFIG_LIBDIR=
        # Packed relocations save a megabyte of every process. They need glibc 2.36, which the image below has, and a linker
        # that can: Debian's for arm64 cannot.
        if [ "$arch" = amd64 ]; then
            export RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs"
        fi
        exec "$@"
        ;;
    collect)
        mkdir -p "$1"
        find "target/$rust/dist" -maxdepth 1 -type f -perm /111 -exec cp {} "$1" \;
        ;;
    *) echo "usage: toolchain install|run|collect ARCH ..." >&2; exit 1 ;;
esac

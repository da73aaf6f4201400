# shellcheck shell=bash
# What the scripts beside this file share. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root

# Build products lie outside the clone, so that a second clone, or a fresh one, does not compile the dependencies again.
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
export HOME
scratch=${PEYVAND_BUILD:-${XDG_CACHE_HOME:-$HOME/.cache}/peyvand/build}
export scratch

# An import of something that Package.swift does not name as a dependency is an error: that keeps the layers apart.
build_options=(--package-path "$root" --scratch-path "$scratch" --explicit-target-dependency-import-check error)

# Tests and the simulator run on a debug build that is optimised: checks and planted mistakes are in it, and a minute of it
# proves as much as several without. All of them use the same options, because others mean building everything again.
# shellcheck disable=SC2034 # Used where this is sourced.
tested_options=(-Xswiftc -O -Xcc -O2)

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' blue=$'\e[34m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' yellow='' blue='' plain=''
fi
export bold dim red green yellow blue plain

# Ends the script with a sentence.
fail() {
    printf '%s%s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# Seconds with one decimal since the moment given: `elapsed "$EPOCHREALTIME"` as the script began.
elapsed() {
    local now=$EPOCHREALTIME
    local tenths=$(((${now/[.,]/} - ${1/[.,]/}) / 100000))
    printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
}

# Builds with the options given. Swift announces every step: on a terminal they pass by in one line, elsewhere they would bury
# what matters, so they go to the file named first and are shown only when the build fails.
build_quietly() {
    local log=$1
    shift
    if [[ -t 1 ]]; then
        swift build "${build_options[@]}" "$@"
    elif ! swift build "${build_options[@]}" "$@" >"$log" 2>&1; then
        cat "$log" >&2
        return 1
    fi
}

# Where the products of a configuration, `debug` or `release`, lie.
product_directory() {
    swift build "${build_options[@]}" --configuration "$1" --show-bin-path
}

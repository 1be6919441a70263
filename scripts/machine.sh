# What the trials of the service have in common: a fresh Debian in a folder, which systemd-nspawn
# boots with a network of its own. Sourced by them. Takes root, debootstrap and systemd-container,
# and changes nothing outside the folder.

own=$(mktemp -d)
machine='' leader=''
end() {
    [ -z "$machine" ] || kill "$machine" 2>/dev/null || true
    [ -z "$machine" ] || wait "$machine" || true
    rm -rf "$own"
}
trap end EXIT

# new_debian RELEASE PACKAGES FOLDER: makes it unless it exists.
new_debian() {
    [ ! -x "$3/usr/bin/apt-get" ] || return 0
    debootstrap --variant=minbase --include="$2" "$1" "$3" >"$own/debootstrap" ||
        { cat "$own/debootstrap" >&2; exit 1; }
}

# boot FOLDER
boot() {
    systemd-nspawn --quiet --directory "$1" --register=no --keep-unit --private-network --boot \
        </dev/null >"$own/console" 2>&1 &
    machine=$!
    for _ in $(seq 300); do
        leader=$(pgrep -P "$machine" | head -n 1) || true
        [ -n "$leader" ] && within systemctl is-system-running >"$own/state" 2>&1 && break
        sleep 0.3
    done
    grep -q running "$own/state" || { cat "$own/console" "$own/state" >&2; exit 1; }
    within ip link set lo up multicast on
}

fail() {
    echo "$(basename "$0"): $*" >&2
    within journalctl -u mcr -n 30 --no-pager >&2 || true
    exit 1
}
# Runs a command in the machine.
within() { nsenter -t "$leader" -a "$@"; }
# expect TEXT COMMAND...: the output has the text.
expect() {
    text=$1
    shift
    seen=$(within "$@" 2>&1) || true
    case $seen in *"$text"*) echo "ok: $* shows $text" ;; *) fail "$*: no $text in: $seen" ;; esac
}
# until_shown SECONDS TEXT COMMAND...
until_shown() {
    left=$1 text=$2
    shift 2
    while ! within "$@" 2>&1 | grep -q "$text"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail "$*: no $text"
        sleep 1
    done
    echo "ok: $* shows $text"
}

# A fresh Debian under systemd in a container: what `test` and `walk` share. For bash, as root, from
# the root of the repository.
# shellcheck shell=bash disable=SC2034  # the scripts use these variables

# A part of both scripts: says what was found, and counts it.
passed=0

check() { # a sentence, and a command that must succeed
  local sentence=$1
  shift
  if ! "$@"; then
    echo "FAILED: $sentence"
    echo "package: $passed passed, 1 failed"
    exit 1
  fi
  echo "ok: $sentence"
  passed=$((passed + 1))
}

skip() {
  echo "skipped: $1"
  echo "package: $passed passed, 0 failed, 1 skipped"
  exit 0
}

says() { [[ $("${@:2}" 2>&1) == *"$1"* ]]; }

# The reason why there can be no container here, as `skip` has it.
needs() { # programs
  local tool
  for tool in debootstrap systemd-nspawn nsenter "$@"; do
    command -v "$tool" >/dev/null || skip "$tool is missing"
  done
  [[ $(id -u) == 0 ]] || skip 'it needs root'
}

# Makes the fresh root, or uses the one of the last run.
make_root() { # directory, more packages
  local root=$1 packages=systemd,systemd-sysv,dbus,curl,procps${2:+,$2}
  if [[ -e $root/made ]]; then return; fi
  mkdir -p "${root%/*}"
  rm -rf "$root"
  debootstrap --variant=minbase --include="$packages" stable "$root" >"$root.log" 2>&1 || return
  touch "$root/made"
}

# Boots the root as a container. Sets `leader`, its first process.
boot() { # directory, log
  systemd-nspawn --directory="$1" --boot --register=no --keep-unit --quiet --private-network \
    --system-call-filter='io_uring_setup io_uring_enter io_uring_register' --console=pipe \
    </dev/null >"$2" 2>&1 &
  local container=$!
  # shellcheck disable=SC2064  # the process that was started here
  trap "kill -TERM $container 2>/dev/null || true; wait $container || true" EXIT
  for _ in {1..400}; do
    kill -0 "$container" 2>/dev/null || return 1
    leader=$(cut -d" " -f1 "/proc/$container/task/$container/children" 2>/dev/null) || leader=''
    if [[ -n $leader ]] && is_up; then return; fi
    sleep 0.3
  done
  return 1
}

is_up() {
  local state
  state=$(nsenter -t "$leader" -a -r -w systemctl is-system-running 2>/dev/null) || true
  [[ $state == running || $state == degraded ]]
}

# What a log ends with, or that it is empty.
last_line() { tail -n 1 "$1" 2>/dev/null | grep . || echo 'and no word of why'; }

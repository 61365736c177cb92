# What `apply`, `revert` and `show` share: reading `settings`, judging values, changing them, and
# taking changes back. POSIX shell, for dash and busybox as well.
#
# A change is written to the journal before it is made. The journal stands in /run, because a
# reboot takes back both. What stands in /etc begins with the line MARK.
# shellcheck shell=sh disable=SC2034,SC2154  # the scripts share these variables

# A tree that stands for the machine's. For tests only.
ROOT=${TUNING_ROOT-}
SETTINGS=$here/settings
STATE=$ROOT/run/ringmesh-tuning
JOURNAL=$STATE/journal
UNITS=$ROOT/etc/systemd/system
# The last by name is the one that holds.
DROP_IN=$UNITS/ringmesh.service.d/zz-tuning.conf
BOOT_UNIT=$UNITS/ringmesh-tuning.service
TAB=$(printf '\t')
MARK='# Made by the tuner of ringmesh; its "revert" takes it away.'

fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# A line of the report: a name and what there is to say.
report() { printf '%-34s %s\n' "$1" "$2"; }

# --- the machine ----------------------------------------------------------------------------

in_container() {
  [ -e "$ROOT/.dockerenv" ] || [ -e "$ROOT/run/.containerenv" ] ||
    [ -e "$ROOT/run/systemd/container" ]
}

in_virtual_machine() { grep -qw hypervisor "$ROOT/proc/cpuinfo" 2>/dev/null; }

has_systemd() { [ -d "$ROOT/run/systemd/system" ] && command -v systemctl >/dev/null; }

# Cores that are online, one a line. They are looked up once.
cores() {
  [ -n "${cores_online-}" ] || cores_online=$(tr ',' '\n' <"$ROOT/sys/devices/system/cpu/online" |
    awk -F- '{ for (core = $1; core <= ($2 == "" ? $1 : $2); core++) print core }')
  printf '%s\n' "$cores_online"
}

# The mask of cores, read from standard input, in the kernel's form: groups of 32 bits.
mask() {
  awk '{ set[$1] = 1; if ($1 > top) top = $1 }
    END {
      for (group = int(top / 32); group >= 0; group--) {
        text = text (text == "" ? "" : ",")
        for (digit = 7; digit >= 0; digit--) {
          value = 0
          for (bit = 3; bit >= 0; bit--) value = value * 2 + ((group * 32 + digit * 4 + bit) in set)
          text = text sprintf("%x", value)
        }
      }
      print text
    }'
}

# The core of a queue: they go round.
core_of_queue() {
  cores | awk -v queue="$1" '{ core[NR - 1] = $1 } END { print core[queue % NR] }'
}

# The network card that a path below /sys/class/net is about; fails for what is no card.
card() {
  card=${1#"$ROOT"/sys/class/net/}
  card=${card%%/*}
  [ -e "$ROOT/sys/class/net/$card/device" ]
}

count() { printf '%s\n' "$#"; }

receive_queues() {
  set -- "$ROOT/sys/class/net/$1/queues"/rx-*
  count "$@"
}

has_few_queues() { [ "$(receive_queues "$1")" -lt "$(cores | wc -l)" ]; }

# `ethtool -l`: the queues of a card that are in use, and that it could have; fails without them.
queues() {
  command -v ethtool >/dev/null || return 1
  ethtool -l "$1" 2>/dev/null | awk '$1 == "Combined:" { value[++n] = $2 }
    END { if (n != 2 || value[1] !~ /^[0-9]+$/ || value[2] !~ /^[0-9]+$/) exit 1
      print value[2], value[1] }'
}

# The number of the queue that an interrupt is for; fails for those of no queue.
queue_of_interrupt() {
  queue_name=
  for action in "$ROOT/proc/irq/$1"/*/; do
    [ -d "$action" ] && queue_name=$(basename "$action")
  done
  case ${queue_name%%@*} in
    *config* | *control* | *event* | *async* | *mgmnt* | *misc* | '') return 1 ;;
  esac
  queue_name=${queue_name%%@*}
  queue=${queue_name##*[!0-9]}
  # `virtio0-rx`: the only one, where it has no number.
  [ -n "$queue" ] || case $queue_name in *rx | *tx | *input | *output) queue=0 ;; *) return 1 ;; esac
}

# --- values ---------------------------------------------------------------------------------

# What holds at a place: a file's text, the chosen one of several words, a card's queues.
# Fails where nothing can be read.
present() {
  case $1 in
    ethtool:*)
      present=$(queues "${1#ethtool:}") && present=${present%% *}
      return
      ;;
  esac
  # Not `read`: it asks for one byte at a time, and a sysctl ends after the first.
  present=$(cat "$1" 2>/dev/null) || return 1
  case $present in
    *\[*\]*)
      present=${present#*\[}
      present=${present%%\]*}
      ;;
  esac
}

# Makes a value hold at a place.
put() {
  case $1 in
    ethtool:*) ethtool -L "${1#ethtool:}" combined "$2" >/dev/null 2>&1 ;;
    *) (printf '%s\n' "$2" >"$1") 2>/dev/null ;;
  esac
}

# Whether a place takes a value at all, without giving it one.
takes() {
  case $1 in
    ethtool:*) return 0 ;;
    *) (: >>"$1") 2>/dev/null ;;
  esac
}

# A value in one form: kernels write masks with commas and zeros in front, and lists with tabs.
plain() { printf '%s\n' "$1" | tr -s '\t ' ' ' | sed 's/,//g; s/^0*\(.\)/\1/'; }

same() {
  [ "$1" = "$2" ] && return
  case $1$2 in
    *[,"$TAB"]* | 0* | *' 0'*) [ "$(plain "$1")" = "$(plain "$2")" ] ;;
    *) case $2 in 0?*) [ "$(plain "$1")" = "$(plain "$2")" ] ;; *) return 1 ;; esac ;;
  esac
}

# Sets `wanted` to what a place should hold by the rule of the setting: the present value where it
# is good. `reason` says why a place is passed over, and then this fails.
judge() {
  wanted=$present
  reason=
  # shellcheck disable=SC2086  # a rule and its numbers
  set -- "$1" $s_want
  case $2 in
    at-least) [ "$present" -ge "$3" ] || wanted=$3 ;;
    at-most) [ "$present" -le "$3" ] || wanted=$3 ;;
    one-of)
      case " ${s_want#one-of } " in *" $present "*) ;; *) wanted=$3 ;; esac
      ;;
    range)
      wanted=$(printf '%s\n' "$present" |
        awk -v low="$3" -v high="$4" '{ print ($1 < low ? $1 : low), ($2 > high ? $2 : high) }')
      ;;
    memory-share)
      pages=$(awk -v page="$(getconf PAGESIZE)" '/^MemTotal:/ { print int($2 * 1024 / page) }' \
        "$ROOT/proc/meminfo")
      wanted=$(printf '%s\n' "$present" | awk -v pages="$pages" -v shares="$3 $4 $5" '{
        split(shares, share)
        for (at = 1; at <= 3; at++) {
          want = int(pages * share[at] / 1000)
          text = text (at > 1 ? " " : "") (want > $at ? want : $at)
        }
        print text }')
      ;;
    queue-for-each-core)
      most=$(queues "$card")
      most=${most#* }
      online=$(cores | wc -l)
      [ "$most" -lt "$online" ] && online=$most
      [ "$present" -ge "$online" ] || wanted=$((online))
      ;;
    core-for-each-queue)
      # One that is alone on its core already has been given it by somebody.
      is_alone "$present" || wanted=$(core_of_queue "$queue")
      ;;
    core-for-each-queue-mask)
      queue=${1##*/tx-}
      queue=${queue%%/*}
      case $(plain "$present") in 0) wanted=$(core_of_queue "$queue" | mask) ;; esac
      ;;
    all-cores)
      case $(plain "$present") in 0) wanted=$(cores | mask) ;; esac
      ;;
    *) fail "settings: $s_name has the rule $2, which there is not" ;;
  esac
  same "$present" "$wanted" && wanted=$present
  return 0
}

# Whether no other interrupt of the card goes to the one core of this list.
is_alone() {
  case $1 in *[!0-9]*) return 1 ;; esac
  [ "$(card_interrupts | while read -r other; do
    cat "$ROOT/proc/irq/$other/smp_affinity_list" 2>/dev/null
  done | grep -cx "$1")" -le "$sides" ]
}

# Interrupts of the queues of the card, one a line.
card_interrupts() {
  for entry in "$ROOT/sys/class/net/$card/device"/msi_irqs/* \
    "$ROOT/sys/class/net/$card/device"/../msi_irqs/*; do
    [ -e "$entry" ] && queue_of_interrupt "${entry##*/}" && echo "${entry##*/}"
  done
}

# --- settings -------------------------------------------------------------------------------

# Calls a function for every setting, with its fields in s_name, s_file and so on.
for_each_setting() {
  clear_setting
  while read -r word rest; do
    case $word in
      '' | '#')
        [ -z "$s_name" ] || "$1"
        clear_setting
        ;;
      setting | unit) s_kind=$word s_name=$rest ;;
      file) s_file=$rest ;;
      want) s_want=$rest ;;
      scope) s_scope=$rest ;;
      when) s_when=$rest ;;
      default) s_default=$rest ;;
      why) s_why=$rest ;;
      effect) s_effect=$rest ;;
      source) s_source=$rest ;;
      absent) s_absent=$rest ;;
      *) fail "settings: no line may begin with $word" ;;
    esac
  done <<END
$(cat "$SETTINGS")

END
}

clear_setting() {
  s_kind='' s_name='' s_file='' s_want='' s_scope=host s_when='' s_default='' s_why=''
  s_effect='' s_source='' s_absent=''
}

# Calls a function for every place of the setting that there is and that can be read, with its
# path in `place`, what holds there in `present`, and what should in `wanted`. Otherwise `reason`
# says why there is none.
for_each_place() {
  reason=$s_absent
  if [ "$s_scope" = host ] && in_container; then
    reason='it is the host'\''s: run this there, not in a container'
    return
  fi
  if ! holds_here; then return; fi
  then_call=$1
  # The patterns are for the tree below ROOT, which may not be this machine's.
  set -f
  # shellcheck disable=SC2086  # several patterns, none of which has a space
  set -- $s_file
  set +f
  for pattern; do
    for entry in $ROOT$pattern; do
      [ -e "$entry" ] || continue
      place=$entry
      is_meant "$entry" || continue
      present "$place" || continue
      judge "$place"
      "$then_call"
      reason=
    done
  done
}

# Whether the setting is for this machine, as far as one can say that for all of its files.
holds_here() {
  case $s_when in
    several-nodes)
      reason='one node of memory only'
      [ -e "$ROOT/sys/devices/system/node/node1" ]
      ;;
    no-irqbalance)
      reason='irqbalance runs, and would take it back: stop it first'
      ! grep -qx irqbalance "$ROOT"/proc/[0-9]*/comm 2>/dev/null || return
      reason=$s_absent
      ;;
    few-queues)
      for entry in "$ROOT"/sys/class/net/*; do
        card "$entry/" || continue
        reason='a queue for every core: none is needed'
        has_few_queues "$card" && reason=$s_absent && return
      done
      return 1
      ;;
  esac
}

# Whether this file is one that the setting is about. May set another `place`.
is_meant() {
  case $1 in "$ROOT"/sys/class/net/*) card "$1" || return ;; esac
  case $s_when in
    few-queues)
      case $1 in "$ROOT"/sys/class/net/*) has_few_queues "$card" || return ;; esac
      ;;
    slow-to-leave*)
      latency_us=$(cat "${1%/*}/latency" 2>/dev/null) || return
      [ "$latency_us" -gt "${s_when#slow-to-leave }" ] || return
      ;;
  esac
  case $s_want in
    queue-for-each-core)
      place=ethtool:$card
      if ! queues "$card" >/dev/null; then
        reason="$card does not say how many queues it has; ethtool may be missing"
        return 1
      fi
      ;;
    core-for-each-queue)
      if [ "$(receive_queues "$card")" = 1 ]; then
        reason="$card has one queue: there is nothing to spread"
        return 1
      fi
      queue_of_interrupt "${1##*/}" || return
      place=$ROOT/proc/irq/${1##*/}/smp_affinity_list
      # Receive and transmit interrupts of a queue may share its core.
      sides=1
      case $queue_name in *input* | *output* | *rx* | *tx*) sides=2 ;; esac
      case $queue_name in *TxRx* | *Tx-Rx*) sides=1 ;; esac
      ;;
    core-for-each-queue-mask)
      set -- "$ROOT/sys/class/net/$card/queues"/tx-*
      [ $# -gt 1 ] || return
      ;;
  esac
}

# --- changing and taking back ---------------------------------------------------------------

# Makes `wanted` hold at `place`, and remembers what was there. Fails, with everything as it was
# at this place, if the kernel does not take it.
change() {
  printf '%s|%s|%s\n' "$place" "$present" "$wanted" >>"$JOURNAL" || return
  if put "$place" "$wanted"; then
    was=$present
    present "$place"
    same "$present" "$wanted" && return
    # It made something else of it: that is what can be taken back.
    forget_last
    printf '%s|%s|%s\n' "$place" "$was" "$present" >>"$JOURNAL"
    case $s_want in
      at-least*) [ "$present" -ge "${s_want#at-least }" ] && return ;;
    esac
    put "$place" "$was"
  fi
  forget_last
  return 1
}

forget_last() { sed '$d' "$JOURNAL" >"$JOURNAL.new" && mv "$JOURNAL.new" "$JOURNAL"; }

journal_lines() { if [ -e "$JOURNAL" ]; then wc -l <"$JOURNAL"; else echo 0; fi; }

# Drops a journal of an earlier boot, where /run outlives one: its values are gone.
drop_old_journal() {
  [ -e "$JOURNAL" ] || return 0
  IFS= read -r boot <"$JOURNAL" || boot=
  present "$ROOT/proc/sys/kernel/random/boot_id" || present=unknown
  [ "$boot" = "$present" ] || rm -f "$JOURNAL"
}

# Begins the journal, if there is none.
begin_journal() {
  mkdir -p "$STATE" || return
  drop_old_journal
  [ -e "$JOURNAL" ] && return
  present "$ROOT/proc/sys/kernel/random/boot_id" || present=unknown
  printf '%s\n' "$present" >"$JOURNAL"
}

# Takes the last changes back, down to so many lines of the journal, the latest first. With a
# second argument nothing is done but said.
take_back() {
  undone=0
  left=0
  while [ "$(journal_lines)" -gt "$1" ] && [ -z "${2-}" ]; do
    take_back_one "$(sed -n '$p' "$JOURNAL")"
    forget_last
  done
  [ -n "${2-}" ] || return 0
  awk -v from="$1" 'NR > from { line[++n] = $0 } END { while (n) print line[n--] }' "$JOURNAL" |
    while IFS= read -r line; do
      split_line "$line"
      report "${place#"$ROOT"}" "$new -> $old"
    done
}

split_line() {
  place=${1%%|*}
  new=${1##*|}
  old=${1#*|}
  old=${old%|*}
}

take_back_one() {
  split_line "$1"
  if ! present "$place"; then
    report "${place#"$ROOT"}" 'is not there any more'
  elif same "$present" "$old"; then
    return
  elif ! same "$present" "$new"; then
    report "${place#"$ROOT"}" "was set to $present by somebody else since, and is left"
    left=$((left + 1))
  elif put "$place" "$old"; then
    report "${place#"$ROOT"}" "$new -> $old"
    undone=$((undone + 1))
  else
    fail "${place#"$ROOT"} does not take its old value $old; the rest is in $JOURNAL"
  fi
}

# --- what stands in /etc --------------------------------------------------------------------

# Whether a file is not there, or was made by this tuner.
is_ours() { [ ! -e "$1" ] || [ "$(sed -n 1p "$1")" = "$MARK" ]; }

# Writes standard input to a file, as a whole or not at all.
write_file() {
  mkdir -p "${1%/*}" && { printf '%s\n' "$MARK" && cat; } >"$1.new" && mv "$1.new" "$1"
}

# The limit of the unit under systemd, in `present`; fails where there is no such unit.
unit_limit() {
  has_systemd && systemctl cat ringmesh.service >/dev/null 2>&1 || return
  present=$(systemctl show -p "$1" --value ringmesh.service 2>/dev/null)
  case $present in
    infinity) present=$(awk 'BEGIN { printf "%.0f", 2 ^ 62 }') ;;
    '' | *[!0-9]*) return 1 ;;
  esac
}

# One invocation at a time.
lock() {
  mkdir -p "$STATE" || fail "cannot write to ${STATE#"$ROOT"}: is /run read-only?"
  mkdir "$STATE/lock" 2>/dev/null ||
    fail "another one is at work; if not, remove ${STATE#"$ROOT"}/lock"
  trap 'rmdir "$STATE/lock"' EXIT
  trap 'exit 1' HUP INT TERM
}

is_root() {
  [ -n "${user-}" ] || user=$(id -u)
  [ "$user" = 0 ]
}

require_root() {
  is_root || fail "needs root to change a host; without --yes it only says what it would do"
}

//! The settings of a host: the tuner's own list, `tuning/settings`, judged by its rules. So what
//! the doctor asks for is what the tuner does, for the reasons that stand there.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use crate::cli::{Findings, Level};
use crate::runtime::core_list;

/// The tuner's list.
const LIST: &str = include_str!("../../tuning/settings");
/// What changes all of them.
pub(super) const TUNER: &str = "run tuning/apply --yes";
/// Bytes of a page where the kernel counts memory in pages.
const PAGE_BYTES: u64 = 4_096;

/// One setting of the list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setting {
    pub name: &'static str,
    file: &'static str,
    pub want: &'static str,
    scope: &'static str,
    when: &'static str,
    why: &'static str,
    is_unit: bool,
}

/// Every setting of the list.
pub(super) fn all() -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for line in LIST.lines() {
        let Some((word, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if matches!(word, "setting" | "unit") {
            settings.push(Setting {
                name: rest,
                scope: "host",
                is_unit: word == "unit",
                ..Setting::default()
            });
            continue;
        }
        let Some(setting) = settings.last_mut() else {
            continue;
        };
        match word {
            "file" => setting.file = rest,
            "want" => setting.want = rest,
            "scope" => setting.scope = rest,
            "when" => setting.when = rest,
            "why" => setting.why = rest,
            _ => {}
        }
    }
    settings
}

/// Judges all of them. Those that this host does not have are passed over.
pub(super) fn look(host: &Host, findings: &mut Findings) {
    let is_container = host.is_container();
    let mut passed_over = 0;
    for setting in all().iter().filter(|it| !it.is_unit) {
        if setting.scope == "host" && is_container {
            passed_over += 1;
        } else if holds_here(setting, host) {
            judge(setting, host, findings);
        }
    }
    if is_container {
        let text = "they are the host's own: run ringmesh doctor there too";
        let measured = format!("{passed_over} settings passed over");
        findings.measured(Level::Ok, "container", measured, text, "");
    }
}

fn holds_here(setting: &Setting, host: &Host) -> bool {
    match setting.when {
        "several-nodes" => host.has("/sys/devices/system/node/node1"),
        // It moves them by itself.
        "no-irqbalance" => !host.runs(&["irqbalance"]),
        "few-queues" => host.cards().iter().any(|card| has_few_queues(host, card)),
        _ => true,
    }
}

fn has_few_queues(host: &Host, card: &str) -> bool {
    host.receive_queues(card) < host.online_cores().len()
}

fn judge(setting: &Setting, host: &Host, findings: &mut Findings) {
    match setting.want {
        "queue-for-each-core" => return queues(setting, host, findings),
        "core-for-each-queue" => return interrupts(setting, host, findings),
        _ => {}
    }
    let patterns = setting.file.split(' ');
    let files = patterns.flat_map(|pattern| host.matching(pattern));
    let files: Vec<_> = files.filter(|file| is_meant(setting, host, file)).collect();
    let mut seen = None;
    let mut bad: Vec<(String, String)> = Vec::new();
    let mut count = 0;
    for file in &files {
        let Some(value) = host.text(file).map(|text| chosen(&text)) else {
            continue;
        };
        count += 1;
        match wanted(setting.want, &value, host) {
            Some(wanted) => bad.push((value, wanted)),
            None => seen = Some(value),
        }
    }
    if let Some((value, wanted)) = bad.first() {
        let measured = match count {
            1 => value.clone(),
            _ => format!("{value} at {} of {count}", bad.len()),
        };
        let by_hand = match setting.file.strip_prefix("/proc/sys/") {
            Some(_) => format!(", or sysctl -w {}=\"{wanted}\"", setting.name),
            None => format!(", which makes it {wanted}"),
        };
        let remedy = format!("{TUNER}{by_hand}");
        findings.measured(Level::Warn, setting.name, measured, setting.why, remedy);
    } else if let Some(value) = seen {
        findings.measured(Level::Ok, setting.name, value, setting.why, "");
    }
}

/// Whether this file is one that the setting is about.
fn is_meant(setting: &Setting, host: &Host, file: &str) -> bool {
    if let Some(rest) = file.strip_prefix("/sys/class/net/") {
        let card = rest.split('/').next().unwrap_or_default();
        let is_card = host.has(&format!("/sys/class/net/{card}/device"));
        let is_few = setting.when != "few-queues" || has_few_queues(host, card);
        let is_spread = setting.want != "core-for-each-queue-mask" || {
            let queues = host.names(&format!("/sys/class/net/{card}/queues"));
            queues.iter().filter(|it| it.starts_with("tx-")).count() > 1
        };
        return is_card && is_few && is_spread;
    }
    match setting.when.strip_prefix("slow-to-leave ") {
        Some(limit_us) => {
            let latency = file.replace("/disable", "/latency");
            let latency_us: Option<u64> = host.number(&latency);
            latency_us > limit_us.parse().ok()
        }
        None => true,
    }
}

/// The chosen one of several words, or the text with single spaces.
fn chosen(text: &str) -> String {
    let word = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    match word {
        Some((word, _)) => word.to_owned(),
        None => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// What should be there instead, by the rule; `None`: the value is good, or no rule knows it.
fn wanted(rule: &str, value: &str, host: &Host) -> Option<String> {
    let (word, rest) = rule.split_once(' ').unwrap_or((rule, ""));
    let numbers = |text: &str| -> Vec<u64> {
        let numbers = text.split_whitespace().filter_map(|it| it.parse().ok());
        numbers.collect()
    };
    let (asked, present) = (numbers(rest), numbers(value));
    let (first, here) = (asked.first().copied(), present.first().copied());
    match word {
        "at-least" => (here? < first?).then(|| rest.to_owned()),
        "at-most" => (here? > first?).then(|| rest.to_owned()),
        "one-of" => {
            let mut words = rest.split(' ');
            let best = words.clone().next()?;
            words.all(|word| word != value).then(|| best.to_owned())
        }
        "range" => {
            let (low, high) = (here?.min(first?), present.get(1)?.max(asked.get(1)?));
            let is_good = here? <= first? && present.get(1)? >= asked.get(1)?;
            (!is_good).then(|| format!("{low} {high}"))
        }
        "memory-share" => {
            let pages = host.memory("MemTotal")? / PAGE_BYTES;
            let each = asked.iter().zip(&present);
            let wanted: Vec<_> = each
                .map(|(share, present)| (pages * share / 1_000).max(*present))
                .collect();
            let text = wanted.iter().map(u64::to_string).collect::<Vec<_>>();
            (wanted != present).then(|| text.join(" "))
        }
        "all-cores" | "core-for-each-queue-mask" => {
            let is_off = value.chars().all(|char| matches!(char, '0' | ','));
            is_off.then(|| "a mask of cores".to_owned())
        }
        _ => None,
    }
}

/// A card with fewer queues than cores is good where the kernel spreads packets instead.
fn queues(setting: &Setting, host: &Host, findings: &mut Findings) {
    for card in host.cards() {
        let (queues, cores) = (host.receive_queues(&card), host.online_cores().len());
        let measured = format!("{card}: {queues} receive queues for {cores} cores");
        let masks = host.matching(&format!("/sys/class/net/{card}/queues/rx-*/rps_cpus"));
        let masks = masks.iter().filter_map(|mask| host.text(mask));
        let is_spread = masks
            .into_iter()
            .any(|it| it.contains(|char| !"0,".contains(char)));
        let level = match queues >= cores || is_spread {
            true => Level::Ok,
            false => Level::Warn,
        };
        let remedy = format!("{TUNER}: more queues where the card has them, RPS otherwise");
        findings.measured(level, setting.name, measured, setting.why, remedy);
    }
}

/// Interrupts of several queues on one core, while another core has none.
fn interrupts(setting: &Setting, host: &Host, findings: &mut Findings) {
    for card in host.cards() {
        let mut cores: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let mut queues = BTreeSet::new();
        let patterns = ["device/msi_irqs/*", "device/../msi_irqs/*"];
        let patterns = patterns.map(|it| format!("/sys/class/net/{card}/{it}"));
        for entry in patterns.iter().flat_map(|it| host.matching(it)) {
            let number = entry.rsplit('/').next().unwrap_or_default();
            let Some(queue) = queue_of(host, number) else {
                continue;
            };
            let list = |name: &str| host.text(&format!("/proc/irq/{number}/{name}"));
            let list = list("effective_affinity_list").or_else(|| list("smp_affinity_list"));
            let list = core_list(&list.unwrap_or_default());
            queues.insert(queue.clone());
            if let [core] = *list {
                cores.entry(core).or_default().insert(queue);
            }
        }
        if queues.len() < 2 {
            continue;
        }
        let crowded = cores.iter().find(|(_, queues)| queues.len() > 1);
        let online = host.online_cores();
        let idle = online.iter().any(|core| !cores.contains_key(core));
        let (level, measured) = match crowded.filter(|_| idle) {
            Some((core, queues)) => (
                Level::Warn,
                format!(
                    "{card}: core {core} has the interrupts of {} queues",
                    queues.len()
                ),
            ),
            None => (
                Level::Ok,
                format!("{card}: {} queues are spread", queues.len()),
            ),
        };
        findings.measured(level, setting.name, measured, setting.why, TUNER);
    }
}

/// The queue that an interrupt is for, by the name of its action; `None`: it is for none.
fn queue_of(host: &Host, number: &str) -> Option<String> {
    let directory = format!("/proc/irq/{number}");
    let names = host.names(&directory);
    let is_action = |name: &&String| host.path(&format!("{directory}/{name}")).is_dir();
    let action = names.iter().find(is_action)?;
    let action = action.split('@').next()?;
    let others = ["config", "control", "event", "async", "mgmnt", "misc"];
    if others.iter().any(|other| action.contains(other)) {
        return None;
    }
    let queue = action.rsplit(|char: char| !char.is_ascii_digit()).next()?;
    (!queue.is_empty()).then(|| queue.to_owned())
}

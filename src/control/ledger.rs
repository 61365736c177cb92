//! The ledger: what every app has used in its period.
//!
//! Shards report what they have counted, about once a second; the ledger adds it up, shows the
//! sums to everybody through the app's gauges, begins periods anew, and knows what the store
//! has yet to write. Time is an argument, and is the believed one
//! ([`WallClock`](super::wall_clock::WallClock)).
//!
//! Counts never shrink inside a period, and a count belongs to the period in which the shard
//! made it, however late it is reported. The period before is kept as well: a clock that is set
//! back, or a plan that is, goes on with the counts that it had.

use std::sync::Arc;

use ahash::AHashMap;

use super::period::PeriodRule;
use super::registry::Registry;
use super::store::Edit;
use super::store::row::UsageRow;
use crate::domain::rights::App;
use crate::domain::usage::{PeriodUsage, UsageDelta};
use crate::ids::AppIndex;

/// A clock that is this little before the period changes nothing, in seconds: it was corrected
/// just after a period had begun.
const BACK_SEC_MIN: u64 = 60;

/// What every app has used in its period.
#[derive(Default)]
pub(super) struct Ledger {
    accounts: AHashMap<AppIndex, Account>,
    /// Counts of apps that are not there (yet): from the store, or no longer declared.
    parked: AHashMap<Box<str>, Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    usage: PeriodUsage,
    before: Option<PeriodUsage>,
}

struct Account {
    app: Arc<App>,
    rule: PeriodRule,
    counts: Counts,
    /// Not yet in the store.
    unsaved: bool,
}

impl Ledger {
    /// With the counts of the store.
    #[must_use]
    pub(super) fn new(rows: Vec<UsageRow>) -> Self {
        let parked = rows.into_iter().map(|row| {
            let UsageRow {
                app_id,
                usage,
                before,
            } = row;
            (app_id.into(), Counts { usage, before })
        });
        Self {
            accounts: AHashMap::new(),
            parked: parked.collect(),
        }
    }

    /// Follows a change of apps and plans.
    pub(super) fn follow(&mut self, registry: &Registry, now_unix: u64) {
        let is_there = |account: &Account| {
            registry
                .app(&account.app.id)
                .is_ok_and(|entry| entry.app.index == account.app.index)
        };
        for (_, account) in self.accounts.extract_if(|_, account| !is_there(account)) {
            self.parked.insert((*account.app.id).into(), account.counts);
        }
        for entry in registry.apps() {
            let app = &entry.app;
            let rule = PeriodRule::of(&entry.row.record.plan);
            match self.accounts.get_mut(&app.index) {
                Some(account) => {
                    account.app = Arc::clone(app);
                    account.change_rule(rule, now_unix);
                }
                None => {
                    let mut account = Account {
                        app: Arc::clone(app),
                        rule,
                        counts: self.parked.remove(&*app.id).unwrap_or_default(),
                        unsaved: false,
                    };
                    account.enter_period(now_unix);
                    self.accounts.insert(app.index, account);
                }
            }
        }
    }

    /// Forgets the counts of a deleted app, so that a new one of its name begins at zero.
    pub(super) fn forget(&mut self, app_id: &str) {
        self.accounts
            .retain(|_, account| *account.app.id != *app_id);
        self.parked.remove(app_id);
    }

    /// Adds what a shard has counted. Apps that are gone are left out. Returns who has passed a
    /// part of what they may use.
    pub(super) fn merge(&mut self, deltas: &[UsageDelta]) -> Vec<Passed> {
        let mut passed = Vec::new();
        for delta in deltas {
            if let Some(account) = self.accounts.get_mut(&delta.app) {
                let before = account.counts.usage.messages;
                account.add(delta);
                passed.extend(account.passed(before));
            }
        }
        passed
    }

    /// Takes in the peaks and begins the periods that are due. Call it once a second.
    pub(super) fn tick(&mut self, now_unix: u64) {
        for account in self.accounts.values_mut() {
            account.tick(now_unix);
        }
    }

    /// The Unix time at which the next period is due.
    #[must_use]
    pub(super) fn next_period_unix(&self) -> Option<u64> {
        let accounts = self.accounts.values();
        accounts.map(|account| account.counts.usage.end_unix).min()
    }

    /// What the store has yet to write; counted as written from now on.
    #[must_use]
    pub(super) fn take_unsaved(&mut self) -> Vec<Edit> {
        let unsaved = self.accounts.values_mut().filter(|account| account.unsaved);
        unsaved
            .map(|account| {
                account.unsaved = false;
                let Counts { usage, before } = account.counts;
                Edit::PutUsage(UsageRow {
                    app_id: account.app.id.to_string(),
                    usage,
                    before,
                })
            })
            .collect()
    }

    /// All counts, for another process.
    #[must_use]
    pub(super) fn rows(&self) -> Vec<UsageRow> {
        let row = |app_id: &str, counts: &Counts| UsageRow {
            app_id: app_id.to_owned(),
            usage: counts.usage,
            before: counts.before,
        };
        let accounts = self.accounts.values();
        let accounts = accounts.map(|account| row(&account.app.id, &account.counts));
        let parked = self.parked.iter().map(|(app, counts)| row(app, counts));
        accounts.chain(parked).collect()
    }

    /// Takes back [`take_unsaved`](Self::take_unsaved), because the store has failed.
    pub(super) fn mark_unsaved(&mut self) {
        for account in self.accounts.values_mut() {
            account.unsaved = true;
        }
    }
}

/// An app has passed four fifths, or all, of the messages that it may use in its period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub app: AppIndex,
    pub used: u64,
    pub allowed: u64,
    /// It was all.
    pub is_all: bool,
}

impl Account {
    /// What was passed since there were so many messages.
    fn passed(&self, before: u64) -> Option<Passed> {
        let allowed = self.app.messages_max?;
        let used = self.counts.usage.messages;
        // As fractions of five, so that nothing is rounded.
        let fifths = |messages: u64| u128::from(messages) * 5;
        let has_passed = |fifths_of_all: u128| {
            let from = u128::from(allowed) * fifths_of_all;
            fifths(before) < from && from <= fifths(used)
        };
        let is_all = has_passed(5);
        (is_all || has_passed(4)).then_some(Passed {
            app: self.app.index,
            used,
            allowed,
            is_all,
        })
    }

    /// The first look at counts that may be from another period, or of another rule.
    fn enter_period(&mut self, now_unix: u64) {
        let (start, end) = self.rule.period_at(now_unix);
        let counts = &mut self.counts;
        if start > counts.usage.start_unix {
            self.begin(start, end);
        } else {
            // The same period, or one that the clock or the plan has moved back: what was
            // counted stays counted, together with what is known of that period.
            if start < counts.usage.start_unix {
                let known = counts.before.take_if(|before| before.start_unix == start);
                known.iter().for_each(|known| counts.usage.join(known));
                self.unsaved = true;
            }
            counts.usage.start_unix = start;
            counts.usage.end_unix = end;
        }
        self.publish();
    }

    fn change_rule(&mut self, rule: PeriodRule, now_unix: u64) {
        if rule != self.rule {
            self.rule = rule;
            self.unsaved = true;
            self.enter_period(now_unix);
        }
    }

    fn add(&mut self, delta: &UsageDelta) {
        let period = self.app.quota.period();
        if delta.period == period {
            self.counts.usage.add(delta);
        } else if let Some(before) = &mut self.counts.before
            && delta.period == period.wrapping_sub(1)
        {
            before.add(delta);
        } else {
            return;
        }
        self.unsaved = true;
        self.publish();
    }

    fn tick(&mut self, now_unix: u64) {
        let peak = self.app.gauges.peak();
        let usage = &mut self.counts.usage;
        if peak > usage.peak_connections {
            usage.peak_connections = peak;
            self.unsaved = true;
        }
        if now_unix >= usage.end_unix || now_unix.saturating_add(BACK_SEC_MIN) < usage.start_unix {
            self.enter_period(now_unix);
        } else {
            self.publish();
        }
    }

    fn begin(&mut self, start_unix: u64, end_unix: u64) {
        self.app.gauges.take_peak();
        self.app.quota.begin_period();
        let usage = PeriodUsage {
            start_unix,
            end_unix,
            peak_connections: self.app.gauges.peak(),
            ..PeriodUsage::default()
        };
        let ended = std::mem::replace(&mut self.counts.usage, usage);
        // An app that is new has no period before.
        self.counts.before = Some(ended).filter(|ended| ended.end_unix > 0);
        self.unsaved = true;
    }

    fn publish(&self) {
        self.app.quota.raise_to(self.counts.usage.messages);
        self.app.gauges.publish_usage(self.counts.usage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::compile::Compiler;
    use crate::control::store::Rows;
    use crate::control::store::row::AppRow;
    use crate::domain::quota::QuotaLease;
    use crate::domain::record::{AppRecord, AppStatus, DirectScope, FeedRecord, PlanRecord};

    /// 2026-01-01T00:00:00Z, and the month after.
    const JANUARY: u64 = 1_767_225_600;
    const FEBRUARY: u64 = 1_769_904_000;

    fn put_app(app_id: &str, plan: PlanRecord) -> Edit {
        let record = AppRecord {
            app_id: app_id.into(),
            name: String::new(),
            status: AppStatus::Active,
            plan,
            direct_scope: DirectScope::App,
            turn: None,
            limits: None,
            feed: FeedRecord::default(),
            history: Vec::new(),
            created_at: 0,
        };
        Edit::PutApp(AppRow {
            record,
            turn_secret: None,
        })
    }

    fn registry() -> Registry {
        let registry = Registry::load(Compiler::new(None), Rows::default()).unwrap();
        registry
            .edited(&[put_app("a", PlanRecord::default())])
            .unwrap()
    }

    fn app_of(registry: &Registry) -> Arc<App> {
        Arc::clone(&registry.app("a").unwrap().app)
    }

    fn delta(app: &App, messages: u64) -> UsageDelta {
        UsageDelta {
            app: app.index,
            period: app.quota.period(),
            messages,
            overage_messages: 2,
            overage_connections: 1,
        }
    }

    /// The ledger, the registry and the app of a server that has run since `now`.
    fn started(rows: Vec<UsageRow>, now: u64) -> (Ledger, Registry, Arc<App>) {
        let (mut ledger, registry) = (Ledger::new(rows), registry());
        ledger.follow(&registry, now);
        let app = app_of(&registry);
        (ledger, registry, app)
    }

    fn saved(ledger: &mut Ledger) -> Vec<UsageRow> {
        let rows = ledger.take_unsaved().into_iter().map(|edit| match edit {
            Edit::PutUsage(row) => row,
            other => panic!("{other:?}"),
        });
        rows.collect()
    }

    #[test]
    fn counts_of_all_shards_add_up_and_are_seen_at_once() {
        let (mut ledger, _, app) = started(vec![], JANUARY + 5);
        let usage = app.gauges.usage().unwrap();
        assert_eq!(
            (usage.start_unix, usage.end_unix, usage.messages),
            (JANUARY, FEBRUARY, 0)
        );
        ledger.merge(&[delta(&app, 10)]);
        ledger.merge(&[
            delta(&app, 5),
            UsageDelta {
                app: AppIndex(99),
                ..delta(&app, 1)
            },
        ]);
        let usage = app.gauges.usage().unwrap();
        assert_eq!(usage.messages, 15);
        assert_eq!((usage.overage_messages, usage.overage_connections), (4, 2));
    }

    #[test]
    fn a_restart_goes_on_in_the_same_period_and_knows_what_was_granted() {
        let (mut ledger, _, app) = started(vec![], JANUARY + 5);
        app.gauges.connect(None).unwrap();
        ledger.merge(&[delta(&app, 10)]);
        ledger.tick(JANUARY + 6);
        let rows = saved(&mut ledger);
        assert_eq!(saved(&mut ledger), vec![], "saved once");

        let (_, _, app) = started(rows.clone(), FEBRUARY - 1);
        let usage = app.gauges.usage().unwrap();
        assert_eq!((usage.messages, usage.peak_connections), (10, 1));
        let mut lease = QuotaLease::default();
        assert!(lease.take(&app.quota, Some(11), 1));
        assert!(!lease.take(&app.quota, Some(11), 1));

        let (_, _, app) = started(rows, FEBRUARY);
        let usage = app.gauges.usage().unwrap();
        assert_eq!(
            (usage.start_unix, usage.messages, usage.peak_connections),
            (FEBRUARY, 0, 0)
        );
    }

    #[test]
    fn another_process_goes_on_with_all_counts_also_of_apps_that_are_not_there() {
        let (mut ledger, registry, app) = started(vec![], JANUARY + 5);
        ledger.merge(&[delta(&app, 10)]);
        let without = registry.edited(&[Edit::DeleteApp("a".into())]).unwrap();
        for rows in [ledger.rows(), {
            ledger.follow(&without, JANUARY + 6);
            ledger.rows()
        }] {
            let (other, _, app) = started(rows, JANUARY + 7);
            assert_eq!(app.gauges.usage().unwrap().messages, 10);
            assert_eq!(other.rows().len(), 1);
        }
    }

    #[test]
    fn a_new_period_begins_at_zero_with_the_connections_that_are_there() {
        let (mut ledger, _, app) = started(vec![], FEBRUARY - 2);
        for _ in 0..3 {
            app.gauges.connect(None).unwrap();
        }
        app.gauges.disconnect();
        app.quota.raise_to(10);
        ledger.merge(&[delta(&app, 10)]);
        ledger.tick(FEBRUARY - 1);
        assert_eq!(app.gauges.usage().unwrap().peak_connections, 3);
        ledger.tick(FEBRUARY);
        let usage = app.gauges.usage().unwrap();
        assert_eq!(
            (usage.start_unix, usage.messages, usage.overage_messages),
            (FEBRUARY, 0, 0)
        );
        assert_eq!((usage.peak_connections, app.quota.granted()), (2, 0));
        assert_eq!(saved(&mut ledger)[0].usage.start_unix, FEBRUARY);
        // A clock that is corrected by a second does not end it again.
        ledger.merge(&[delta(&app, 1)]);
        ledger.tick(FEBRUARY - 1);
        ledger.tick(FEBRUARY + 1);
        assert_eq!(app.gauges.usage().unwrap().messages, 1);
    }

    #[test]
    fn a_plan_that_moves_the_period_keeps_counts_unless_a_new_one_begins() {
        let (mut ledger, mut registry, app) = started(vec![], JANUARY + 86_400);
        ledger.merge(&[delta(&app, 10)]);
        let with = |start: u64| PlanRecord {
            period_start_unix: Some(start),
            period_days: Some(30),
            ..PlanRecord::default()
        };
        for (start, now, messages) in [
            (JANUARY - 5, JANUARY + 86_401, 10),
            (JANUARY - 5, JANUARY + 86_402, 10),
            (JANUARY + 86_402, JANUARY + 86_403, 0),
        ] {
            registry = registry.edited(&[put_app("a", with(start))]).unwrap();
            ledger.follow(&registry, now);
            let usage = app.gauges.usage().unwrap();
            assert_eq!(
                (usage.start_unix, usage.messages),
                (start, messages),
                "{start}"
            );
        }
    }

    #[test]
    fn a_deleted_app_starts_again_at_zero_and_a_lost_one_goes_on() {
        let (mut ledger, registry, app) = started(vec![], JANUARY);
        ledger.merge(&[delta(&app, 10)]);
        let without = registry.edited(&[Edit::DeleteApp("a".into())]).unwrap();
        let again = without
            .edited(&[put_app("a", PlanRecord::default())])
            .unwrap();

        ledger.follow(&without, JANUARY);
        assert_eq!(saved(&mut ledger), vec![]);
        ledger.follow(&again, JANUARY);
        assert_eq!(app_of(&again).gauges.usage().unwrap().messages, 10);

        ledger.forget("a");
        ledger.follow(&without, JANUARY);
        let again = without
            .edited(&[put_app("a", PlanRecord::default())])
            .unwrap();
        ledger.follow(&again, JANUARY);
        assert_eq!(app_of(&again).gauges.usage().unwrap().messages, 0);
    }

    #[test]
    fn what_the_store_could_not_write_is_written_later() {
        let (mut ledger, _, app) = started(vec![], JANUARY);
        ledger.merge(&[delta(&app, 10)]);
        assert_eq!(saved(&mut ledger).len(), 1);
        ledger.mark_unsaved();
        assert_eq!(saved(&mut ledger)[0].usage.messages, 10);
    }

    #[test]
    fn what_was_dropped_at_the_end_of_a_period_leaves_the_next_ones_quota_whole() {
        const QUOTA: u64 = 500;
        let (mut ledger, _, app) = started(vec![], FEBRUARY - 2);
        let mut lease = QuotaLease::default();
        let mut grant = |attempts: u64| {
            let granted = (0..attempts).filter(|_| lease.take(&app.quota, Some(QUOTA), 1));
            granted.count() as u64
        };
        let old = app.quota.period();
        assert_eq!(grant(900), QUOTA);
        ledger.tick(FEBRUARY);
        let late = |messages, period| UsageDelta {
            period,
            ..delta(&app, messages)
        };
        ledger.merge(&[late(900, old), late(3, old.wrapping_sub(1))]);
        assert_eq!(app.gauges.usage().unwrap().messages, 0);
        assert_eq!(grant(900), QUOTA);
        ledger.merge(&[late(900, app.quota.period())]);
        assert_eq!(app.gauges.usage().unwrap().messages, 900);
        // The ended period is written down with its own.
        let row = &saved(&mut ledger)[0];
        let before = row.before.unwrap();
        assert_eq!((before.start_unix, before.messages), (JANUARY, 900));
        assert_eq!((row.usage.start_unix, row.usage.messages), (FEBRUARY, 900));
    }

    #[test]
    fn a_clock_that_was_ahead_for_good_and_is_set_back_goes_on_with_its_counts() {
        let (mut ledger, _, app) = started(vec![], JANUARY + 5);
        ledger.merge(&[delta(&app, 10)]);
        ledger.tick(FEBRUARY + 9 * 86_400);
        ledger.merge(&[delta(&app, 5)]);
        let rows = saved(&mut ledger);
        let check = |app: &App| {
            let usage = app.gauges.usage().unwrap();
            assert_eq!(
                (usage.start_unix, usage.end_unix, usage.messages),
                (JANUARY, FEBRUARY, 15)
            );
            assert_eq!(app.quota.granted(), 15);
        };
        ledger.tick(JANUARY + 10);
        check(&app);
        // The same with a restart between the two.
        let (_, _, app) = started(rows, JANUARY + 10);
        check(&app);
    }

    #[test]
    fn a_clock_beyond_the_calendar_begins_one_period_and_not_one_a_second() {
        let (mut ledger, _, app) = started(vec![], JANUARY);
        ledger.tick(u64::MAX);
        ledger.merge(&[delta(&app, 10)]);
        ledger.tick(u64::MAX);
        assert_eq!(app.gauges.usage().unwrap().messages, 10);
    }

    #[test]
    fn the_next_period_is_the_first_to_be_due() {
        let (ledger, mut registry, _) = started(vec![], JANUARY);
        assert_eq!(ledger.next_period_unix(), Some(FEBRUARY));
        let mut ledger = ledger;
        let daily = PlanRecord {
            period_start_unix: Some(JANUARY),
            period_days: Some(1),
            ..PlanRecord::default()
        };
        registry = registry.edited(&[put_app("b", daily)]).unwrap();
        ledger.follow(&registry, JANUARY);
        assert_eq!(ledger.next_period_unix(), Some(JANUARY + 86_400));
    }
}

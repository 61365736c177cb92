//! Bugs for the simulation to find, none of which is in a server.
//!
//! Each [`Bug`] has one place in the code, which asks [`planted`] whether it is there. Without the
//! feature `planted-bugs` the reply is the constant `false`, so that the compiler leaves nothing
//! of that place; the assertion below holds it. With the feature, `plant` puts one bug at a time
//! into a thread. What finds them is `tests/sim`, see `tests/sim/planted.md`.

/// A bug that somebody could have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A snapshot is queued, and nobody is told to write it.
    LostWakeUp,
    /// A peer is said to have left with each of its tabs, not only with the last one.
    LeaveToldTwice,
    /// A joiner is acked before all homes have its announcement.
    AckBeforeAnnouncement,
    /// A message over a blocked link overtakes those before it.
    ReorderedByParkedLink,
    /// A connection that ends leaves the roster of its first channel only.
    MembershipLeaked,
    /// A rendered roster is used although a change was announced.
    SnapshotMissesChange,
    /// A message over the quota is counted as used and as dropped.
    QuotaCountedTwice,
    /// Input that waited for a link does not go on when the link is free.
    HeldInputNeverResumed,
    /// The last shard keeps the rights that it has.
    StaleRightsOnOneShard,
    /// A kick leaves connections alone that are on their way into a channel.
    KickMissesJoining,
    /// A timer that is set to an earlier time is noted and not set.
    TimerLostOnRearm,
    /// A write of a batch that took only a part of what it was offered is not noted.
    WrittenPrefixKept,
    /// Publications whose owner is lost are not answered.
    LostQuestionWithoutEnd,
    /// The token of a connection that is in a channel does not expire.
    TokenExpiryIgnored,
    /// A kick is answered twice.
    RestAnsweredTwice,
    /// What a member was lent is not given back when its session ends.
    LoanOutlivesSession,
    /// A direct message does not wait for the joins of its receiver.
    DirectOvertakesSnapshot,
    /// A delivery to a queue that is a quarter full is dropped, and the reader is not closed.
    DroppedSilently,
    /// Changed rights leave connections alone whose peers are being registered.
    RevocationMissesRegistering,
    /// A connection that ends while its peer is being registered stays in its app's count.
    CountLeaked,
    /// A portion of an operator's walk begins one slot behind the end of the one before.
    WalkSkipsSlot,
    /// An operator's walk looks at a whole table at once.
    WalkWithoutPortions,
    /// A replay begins one publication too late.
    ReplayOffByOne,
    /// A publication with an id that is known is published again.
    RepeatedIdPublished,
    /// A subscriber that has missed what is not kept any more is told that it has everything.
    EvictionUntold,
    /// A publication is acked when it is handed over to be stored.
    AckBeforeStored,
    /// A publication is acked as stored before it is durable.
    AckBeforeFsync,
    /// Segments whose end is missing are taken for whole: numbers are given again.
    TornTailTakenForWhole,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::LostWakeUp,
        Self::LeaveToldTwice,
        Self::AckBeforeAnnouncement,
        Self::ReorderedByParkedLink,
        Self::MembershipLeaked,
        Self::SnapshotMissesChange,
        Self::QuotaCountedTwice,
        Self::HeldInputNeverResumed,
        Self::StaleRightsOnOneShard,
        Self::KickMissesJoining,
        Self::TimerLostOnRearm,
        Self::WrittenPrefixKept,
        Self::LostQuestionWithoutEnd,
        Self::TokenExpiryIgnored,
        Self::RestAnsweredTwice,
        Self::LoanOutlivesSession,
        Self::DirectOvertakesSnapshot,
        Self::DroppedSilently,
        Self::RevocationMissesRegistering,
        Self::CountLeaked,
        Self::WalkSkipsSlot,
        Self::WalkWithoutPortions,
        Self::ReplayOffByOne,
        Self::RepeatedIdPublished,
        Self::EvictionUntold,
        Self::AckBeforeStored,
        Self::AckBeforeFsync,
        Self::TornTailTakenForWhole,
    ];
}

/// Whether that bug is there.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
#[must_use]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(not(feature = "planted-bugs"))]
const _: () = assert!(
    !planted(Bug::LostWakeUp),
    "a server is compiled as if nobody asked"
);

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether that bug is there, on this thread.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Puts that bug into this thread, instead of the one before; or none.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

//! What a credential allows, as the model of the simulation sees it.

/// What may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Publish,
    Subscribe,
    Presence,
    Send,
}

const NAMES: [(Action, &str); 4] = [
    (Action::Publish, "publish"),
    (Action::Subscribe, "subscribe"),
    (Action::Presence, "presence"),
    (Action::Send, "send"),
];

/// Some of the actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Actions(u8);

impl Actions {
    pub(crate) const ALL: Self = Self(0b1111);

    /// All actions but one.
    pub(crate) fn without(action: Action) -> Self {
        Self(Self::ALL.0 & !(1 << action as u8))
    }

    pub(crate) fn contains(self, action: Action) -> bool {
        self.0 & 1 << action as u8 != 0
    }

    pub(crate) fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// With some of the actions as others have them.
    pub(crate) fn with(self, actions: impl IntoIterator<Item = Action>, of: Self) -> Self {
        actions.into_iter().fold(self, |all, action| {
            let bit = 1 << action as u8;
            Self(all.0 & !bit | of.0 & bit)
        })
    }

    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let allowed = NAMES
            .iter()
            .filter(move |(action, _)| self.contains(*action));
        allowed.map(|(_, name)| *name)
    }
}

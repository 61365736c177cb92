//! What a peer may do: a set of the four actions that keys and tokens name.
//!
//! Stands between the names in keys and tokens and every check of a command. It does not know
//! which command needs which action.

use std::fmt;

/// One thing that a key or a token can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// Publish to a channel.
    Publish = 1,
    /// Subscribe to a channel.
    Subscribe = 1 << 1,
    /// See who is in a channel.
    Presence = 1 << 2,
    /// Send to one peer.
    Send = 1 << 3,
}

impl Action {
    /// Every action, in the order in which sets list theirs.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Subscribe, Self::Presence, Self::Send];

    /// Returns the name that keys and tokens use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Presence => "presence",
            Self::Send => "send",
        }
    }

    /// Returns the action of that name. Case counts.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// A name that is no action's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownAction;

impl fmt::Display for UnknownAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an action is one of publish, subscribe, presence, send")
    }
}

impl std::error::Error for UnknownAction {}

/// A set of actions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Actions(u8);

impl Actions {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// The set of all four actions.
    pub const ALL: Self = Self(0b1111);

    /// The set of the named actions; a name may occur twice.
    ///
    /// # Errors
    /// [`UnknownAction`] when one of the names is no action's.
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, UnknownAction> {
        let action = |name: S| Action::from_name(name.as_ref()).ok_or(UnknownAction);
        names.into_iter().map(action).collect()
    }

    /// Whether the action is in the set.
    #[inline]
    #[must_use]
    pub fn contains(self, action: Action) -> bool {
        self.0 & action as u8 != 0
    }

    /// Whether every action of `other` is in the set.
    #[must_use]
    pub fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The actions that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The actions of the set, in the order of [`Action::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .into_iter()
            .filter(move |&action| self.contains(action))
    }

    /// The names of its actions, in the order of [`Action::ALL`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(Action::name)
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(
            actions
                .into_iter()
                .fold(0, |bits, action| bits | action as u8),
        )
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_its_own_action() {
        for action in Action::ALL {
            assert_eq!(Action::from_name(action.name()), Some(action));
            let only: Actions = [action].into_iter().collect();
            assert_eq!(Actions::parse([action.name()]), Ok(only));
            assert_eq!(only.iter().collect::<Vec<_>>(), [action]);
        }
        assert_eq!(Actions::ALL, Action::ALL.into_iter().collect());
    }

    #[test]
    fn sets_list_each_action_once_and_in_order() {
        let actions = Actions::parse(["send", "publish", "send"]).unwrap();
        assert_eq!(actions.names().collect::<Vec<_>>(), ["publish", "send"]);
        assert_eq!(format!("{actions:?}"), r#"{"publish", "send"}"#);
        assert_eq!(Actions::parse::<&str>([]), Ok(Actions::NONE));
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "Publish", "publish ", "receive"] {
            assert_eq!(
                Actions::parse(["send", name]),
                Err(UnknownAction),
                "{name:?}"
            );
        }
    }

    #[test]
    fn containment_and_intersection() {
        let some = Actions::parse(["publish", "presence"]).unwrap();
        let other = Actions::parse(["presence", "send"]).unwrap();
        assert!(Actions::ALL.contains_all(some) && some.contains_all(Actions::NONE));
        assert!(some.contains_all(some) && !some.contains_all(other));
        assert_eq!(
            some.intersection(other).names().collect::<Vec<_>>(),
            ["presence"]
        );
        assert!(some.contains(Action::Publish) && !some.contains(Action::Send));
    }
}

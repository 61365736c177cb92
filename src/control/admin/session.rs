//! Sessions of browsers: begun with a token or a code that is good once, held in two halves.
//!
//! A browser sends one half as a cookie, which no script can read, and the page sends the other
//! as a header, which no other origin can read. Cookies know no ports, so another program on this
//! host may be sent the first: it is worth nothing alone. Both are 256 random bits, and only their
//! hashes are kept, in memory: a restart ends all sessions.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::control::error::ControlError;
use crate::control::secret::{new_secret, sha256};
use crate::domain::rights::SecretHash;
use crate::domain::time::Now;

/// Sessions at a time; the one that was not used for longest gives way.
pub(super) const SESSIONS_MAX: usize = 64;
/// How long a session may be unused, in milliseconds.
const IDLE_MS_MAX: u64 = 3_600_000;
/// How long a session lasts however much it is used, in milliseconds.
const LIFE_MS_MAX: u64 = 12 * 3_600_000;
/// How long a code is good, in milliseconds.
const CODE_MS_MAX: u64 = 60_000;
/// Codes that are good at a time; the oldest gives way.
const CODES_MAX: usize = 16;
/// Sign-ins of one address within [`ATTEMPTS_MS`].
pub(super) const ATTEMPTS_MAX: usize = 10;
/// The time in which sign-ins are counted, in milliseconds.
const ATTEMPTS_MS: u64 = 60_000;
/// Sign-ins that are remembered; the oldest is forgotten.
const ATTEMPTS_KEPT_MAX: usize = 1_024;
/// Random bytes of half a session.
const HALF_BYTES: usize = 32;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Everything.
    Admin,
    /// Read what is no secret.
    Reader,
}

/// All sessions, and the codes that may begin one.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    sessions: Vec<Session>,
    /// The number of the next one.
    next: u64,
    /// The oldest first.
    codes: VecDeque<Code>,
    /// Who tried to sign in, and when; the oldest first.
    attempts: VecDeque<(u64, IpAddr)>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    cookie_sha256: SecretHash,
    half_sha256: SecretHash,
    role: Role,
    ends_ms: u64,
    used_ms: u64,
}

#[derive(Debug)]
struct Code {
    sha256: SecretHash,
    ends_ms: u64,
}

/// A session that has begun: the halves as their holders send them.
pub(super) struct Begun {
    pub cookie: Zeroizing<String>,
    pub half: Zeroizing<String>,
    /// Names it among those of this process.
    pub number: u64,
    /// When it ends at the latest, in Unix seconds.
    pub expires_at: u64,
}

/// A session that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Names it among those of this process.
    pub number: u64,
    pub role: Role,
    /// When it ends at the latest, in Unix seconds.
    pub expires_at: u64,
}

impl Sessions {
    /// Makes a code that is good for one sign-in, for a minute.
    ///
    /// # Errors
    /// `Unavailable` when the system has no random bytes.
    pub(crate) fn code(&self, now: Now) -> Result<Zeroizing<String>, ControlError> {
        let code = new_secret("")?;
        let mut table = self.table();
        if table.codes.len() >= CODES_MAX {
            table.codes.pop_front();
        }
        table.codes.push_back(Code {
            sha256: sha256(code.expose().as_bytes()),
            ends_ms: now.mono_ms + CODE_MS_MAX,
        });
        Ok(Zeroizing::new(code.expose().to_owned()))
    }

    /// When a code that is made now is good no longer, in Unix seconds.
    pub(super) fn code_expires_at(now: Now) -> u64 {
        (now.unix_ms + CODE_MS_MAX) / 1_000
    }

    /// Whether a code is good, which it is not again.
    pub(super) fn take_code(&self, code: &[u8], now: Now) -> bool {
        let asked = sha256(code);
        let mut table = self.table();
        table.codes.retain(|code| now.mono_ms < code.ends_ms);
        let found = table
            .codes
            .iter()
            .position(|it| are_equal(&it.sha256, &asked));
        found.is_some_and(|at| table.codes.remove(at).is_some())
    }

    /// Counts a sign-in. `false`: the address has tried too often.
    pub(super) fn may_try(&self, address: IpAddr, now: Now) -> bool {
        let address = network(address);
        let mut table = self.table();
        let since_ms = now.mono_ms.saturating_sub(ATTEMPTS_MS);
        while table.attempts.front().is_some_and(|(ms, _)| *ms < since_ms)
            || table.attempts.len() >= ATTEMPTS_KEPT_MAX
        {
            table.attempts.pop_front();
        }
        let tried = table.attempts.iter().filter(|(_, it)| *it == address);
        if tried.count() >= ATTEMPTS_MAX {
            return false;
        }
        table.attempts.push_back((now.mono_ms, address));
        true
    }

    /// Begins a session.
    ///
    /// # Errors
    /// `Unavailable` when the system has no random bytes.
    pub(super) fn begin(&self, role: Role, now: Now) -> Result<Begun, ControlError> {
        let (cookie, half) = (random()?, random()?);
        let mut table = self.table();
        table.end_old(now.mono_ms);
        if table.sessions.len() >= SESSIONS_MAX {
            let idle = table.sessions.iter().enumerate();
            let idle = idle.min_by_key(|(_, it)| it.used_ms).map(|(at, _)| at);
            idle.map(|at| table.sessions.swap_remove(at));
        }
        let number = table.next;
        table.next += 1;
        table.sessions.push(Session {
            number,
            cookie_sha256: sha256(cookie.as_bytes()),
            half_sha256: sha256(half.as_bytes()),
            role,
            ends_ms: now.mono_ms + LIFE_MS_MAX,
            used_ms: now.mono_ms,
        });
        Ok(Begun {
            cookie,
            half,
            number,
            expires_at: (now.unix_ms + LIFE_MS_MAX) / 1_000,
        })
    }

    /// The session of two halves, which is used now. Takes the same time for all of one length.
    pub(super) fn find(&self, cookie: &[u8], half: &[u8], now: Now) -> Option<Found> {
        let mut table = self.table();
        table.end_old(now.mono_ms);
        let at = table.position(cookie, half)?;
        let session = &mut table.sessions[at];
        session.used_ms = now.mono_ms;
        Some(Found {
            number: session.number,
            role: session.role,
            expires_at: (now.unix_ms + (session.ends_ms - now.mono_ms)) / 1_000,
        })
    }

    /// Whether a session has not ended. To ask is no use of it.
    pub(super) fn has(&self, number: u64, now: Now) -> bool {
        let mut table = self.table();
        table.end_old(now.mono_ms);
        table.sessions.iter().any(|it| it.number == number)
    }

    /// Ends the session of two halves. Returns whether there was one.
    pub(super) fn end(&self, cookie: &[u8], half: &[u8]) -> bool {
        let mut table = self.table();
        let at = table.position(cookie, half);
        at.map(|at| table.sessions.swap_remove(at)).is_some()
    }

    /// Ends all sessions, and makes all codes worthless. Returns how many sessions there were.
    pub(super) fn end_all(&self) -> usize {
        let mut table = self.table();
        table.codes.clear();
        table.sessions.drain(..).count()
    }

    /// How many sessions there are.
    pub(super) fn count(&self, now: Now) -> usize {
        let mut table = self.table();
        table.end_old(now.mono_ms);
        table.sessions.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn end_old(&mut self, now_ms: u64) {
        self.sessions.retain(|session| {
            now_ms < session.ends_ms && now_ms.saturating_sub(session.used_ms) < IDLE_MS_MAX
        });
    }

    fn position(&self, cookie: &[u8], half: &[u8]) -> Option<usize> {
        let (cookie, half) = (sha256(cookie), sha256(half));
        self.sessions.iter().position(|session| {
            // Both, always: which half is wrong does not show.
            are_equal(&session.cookie_sha256, &cookie) & are_equal(&session.half_sha256, &half)
        })
    }
}

fn are_equal(one: &SecretHash, other: &SecretHash) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

/// What counts as one address: of IPv6 a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn random() -> Result<Zeroizing<String>, ControlError> {
    let mut bytes = Zeroizing::new([0_u8; HALF_BYTES]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice())
        .map_err(|_| ControlError::Unavailable("the system has no random bytes".into()))?;
    Ok(Zeroizing::new(
        BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sec: u64) -> Now {
        Now {
            mono_ms: 5_000 + sec * 1_000,
            unix_ms: 1_767_312_000_000 + sec * 1_000,
        }
    }

    fn find(sessions: &Sessions, begun: &Begun, now: Now) -> Option<Role> {
        let found = sessions.find(begun.cookie.as_bytes(), begun.half.as_bytes(), now);
        found.map(|it| it.role)
    }

    #[test]
    fn a_session_needs_both_halves_of_its_own() {
        let sessions = Sessions::default();
        let one = sessions.begin(Role::Admin, at(0)).unwrap();
        let other = sessions.begin(Role::Reader, at(0)).unwrap();
        assert_eq!(find(&sessions, &one, at(1)), Some(Role::Admin));
        assert_eq!(find(&sessions, &other, at(1)), Some(Role::Reader));
        assert!(one.cookie.len() == 43 && one.cookie != one.half);
        for (cookie, half) in [
            (&one.cookie, &other.half),
            (&other.cookie, &one.half),
            (&one.half, &one.cookie),
            (&one.cookie, &Zeroizing::new(String::new())),
        ] {
            assert_eq!(
                sessions.find(cookie.as_bytes(), half.as_bytes(), at(1)),
                None
            );
        }
        let number = |begun: &Begun| {
            let found = sessions.find(begun.cookie.as_bytes(), begun.half.as_bytes(), at(1));
            found.map(|it| it.number)
        };
        assert_eq!((number(&one), number(&other)), (Some(0), Some(1)));
        sessions.end(other.cookie.as_bytes(), one.half.as_bytes());
        sessions.end(one.cookie.as_bytes(), one.half.as_bytes());
        assert_eq!(find(&sessions, &one, at(1)), None);
        assert_eq!(find(&sessions, &other, at(1)), Some(Role::Reader));
        assert_eq!((sessions.end_all(), sessions.count(at(1))), (1, 0));
    }

    #[test]
    fn a_session_ends_when_it_is_idle_for_an_hour_and_after_twelve() {
        let sessions = Sessions::default();
        let idle = sessions.begin(Role::Admin, at(0)).unwrap();
        assert!(find(&sessions, &idle, at(3_599)).is_some());
        assert!(find(&sessions, &idle, at(3_599 + 3_600)).is_none());
        let used = sessions.begin(Role::Admin, at(0)).unwrap();
        assert_eq!(used.expires_at, at(12 * 3_600).unix_sec());
        for minute in 0..12 * 60 {
            let found = sessions.find(
                used.cookie.as_bytes(),
                used.half.as_bytes(),
                at(minute * 60),
            );
            assert_eq!(
                found.unwrap().expires_at,
                used.expires_at,
                "minute {minute}"
            );
        }
        assert!(find(&sessions, &used, at(12 * 3_600)).is_none());
    }

    #[test]
    fn the_session_unused_for_longest_gives_way() {
        let sessions = Sessions::default();
        let begin = |sec| sessions.begin(Role::Admin, at(sec)).unwrap();
        let all: Vec<_> = (0..SESSIONS_MAX as u64).map(begin).collect();
        assert!(find(&sessions, &all[0], at(100)).is_some());
        let last = begin(101);
        assert!(find(&sessions, &all[1], at(102)).is_none());
        for session in all.iter().skip(2).chain([&all[0], &last]) {
            assert!(find(&sessions, session, at(102)).is_some());
        }
        assert_eq!(sessions.count(at(102)), SESSIONS_MAX);
    }

    #[test]
    fn a_code_is_good_once_and_for_a_minute() {
        let sessions = Sessions::default();
        let code = sessions.code(at(0)).unwrap();
        assert!(
            !sessions.take_code(b"", at(0)) && !sessions.take_code(&code.as_bytes()[1..], at(0))
        );
        assert!(sessions.take_code(code.as_bytes(), at(59)));
        assert!(!sessions.take_code(code.as_bytes(), at(59)));
        let late = sessions.code(at(0)).unwrap();
        assert!(!sessions.take_code(late.as_bytes(), at(60)));
        let codes: Vec<_> = (0..=CODES_MAX)
            .map(|_| sessions.code(at(60)).unwrap())
            .collect();
        assert!(!sessions.take_code(codes[0].as_bytes(), at(61)));
        assert!(sessions.take_code(codes[CODES_MAX].as_bytes(), at(61)));
    }

    #[test]
    fn an_address_may_try_ten_times_a_minute() {
        let sessions = Sessions::default();
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for at_sec in 0..10 {
            assert!(sessions.may_try(one, at(at_sec)));
        }
        assert!(!sessions.may_try(one, at(30)) && sessions.may_try(other, at(30)));
        assert!(
            sessions.may_try(one, at(61)),
            "the first is older than a minute"
        );
        assert!(!sessions.may_try(one, at(60)));
        let of_block = |host: u16| format!("2001:db8::{host:x}").parse().unwrap();
        for host in 0..10 {
            assert!(sessions.may_try(of_block(host), at(100)));
        }
        assert!(!sessions.may_try(of_block(99), at(100)));
    }
}

//! Apps and keys that the configuration declares: checked where the configuration is read,
//! never stored, and not to be changed through the admin API.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::record::{AppRecord, KeyRecord};

/// What the configuration declares.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The file, named when somebody tries to change what it declares.
    pub file: Arc<Path>,
    /// The apps that it declares.
    pub apps: Vec<DeclaredApp>,
}

/// An app that the configuration declares. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct DeclaredApp {
    /// The app as operators see it.
    pub record: AppRecord,
    /// What signs its TURN credentials; present exactly when `record.turn` is.
    pub turn_secret: Option<Zeroizing<Vec<u8>>>,
    /// The keys of the app.
    pub keys: Vec<DeclaredKey>,
}

/// A key of a declared app. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct DeclaredKey {
    /// The key as operators see it.
    pub record: KeyRecord,
    /// What its tokens are signed with; present exactly when it is a secret key.
    pub signing_secret: Option<Zeroizing<Vec<u8>>>,
    /// `sk_live_…`, for REST; secret keys may have one.
    pub api_secret: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for DeclaredApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("DeclaredApp");
        shown
            .field("record", &self.record)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DeclaredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeclaredKey")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

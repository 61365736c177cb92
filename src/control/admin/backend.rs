//! Backends of apps, where the admin API is theirs too: who shows a credential of the REST API.

use std::sync::Arc;

use axum::http::HeaderValue;

use crate::control::engine::Engine;
use crate::domain::rights::Key;

/// Who asks, where that is an app's backend.
#[derive(Clone)]
pub(super) struct Backend {
    /// `Authorization`, which must stay good.
    pub authorization: HeaderValue,
}

/// The secret key of an app that an `Authorization` header proves.
pub(super) fn secret_key(
    engine: &Engine,
    app_id: &str,
    authorization: &HeaderValue,
) -> Option<Arc<Key>> {
    let (scheme, credential) = authorization.to_str().ok()?.split_at_checked(7)?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer ");
    let key = is_bearer.then(|| engine.secret_key(credential.trim()))??;
    (*key.app.id == *app_id).then_some(key)
}

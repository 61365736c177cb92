//! `POST /v1/tokens`: a backend's key signs a connect token.

use std::borrow::Cow;

use crate::domain::rights::{Key, KeyKind, SigningMaterial};
use crate::limits::token_bytes_max;
use crate::proto::actions::Actions;
use crate::proto::claims::{MintRequest, mint};
use crate::proto::http::error::ApiError;
use crate::proto::pattern::all_contained;
use crate::shard::connection::refusal::Refusal;
use crate::shard::context::Context;
use crate::shard::rest::answer::{TokenAnswer, append_json};
use crate::shard::rest::body::MintBody;
use crate::shard::rest::{Rest, Served};

impl Rest {
    pub(super) fn mint_token(
        &mut self,
        key: &Key,
        body: &[u8],
        context: &mut Context,
    ) -> Result<Served, Refusal> {
        let request = MintBody::parse(body)?;
        let granted = |channels: &Vec<_>| all_contained(channels, &key.patterns);
        if !request.channels.as_ref().is_none_or(granted) {
            return Err(Refusal::new(
                ApiError::ChannelNotAuthorized,
                "'channels' has a pattern that is not contained in one of the key's patterns",
            ));
        }
        let permissions = request.permissions.map(Actions::parse).transpose().ok();
        let Some(permissions) =
            permissions.filter(|asked| asked.is_none_or(|asked| key.actions.contains_all(asked)))
        else {
            return Err(Refusal::new(
                ApiError::ActionNotPermitted,
                "'permissions' has an action that is not one of the key's",
            ));
        };
        let KeyKind::Secret(SigningMaterial::Ready { current, .. }) = &key.kind else {
            return Err(Refusal::new(
                ApiError::InternalError,
                "the server cannot read the key's signing secret: its log says why",
            ));
        };
        let expires_at = context.now.unix_sec() + request.expires_in_sec;
        let token = mint(
            &MintRequest {
                key_id: &key.id,
                sub: &request.peer_id,
                issued_at_unix: context.now.unix_sec(),
                expires_at_unix: expires_at,
                channels: request.channels.as_deref(),
                permissions,
                metadata: request.metadata,
                peer_metadata: request.peer_metadata,
            },
            current,
        )
        .map_err(|_| Refusal::invalid("the token would not be valid"))?;
        let bytes_max = token_bytes_max(context.config.limits.head_bytes_max);
        if token.len() > bytes_max {
            return Err(Refusal {
                message: Cow::Owned(format!(
                    "the token would have {} bytes, and no more than {bytes_max} can connect; \
                     give it fewer or shorter channels, or less metadata",
                    token.len()
                )),
                ..Refusal::invalid("")
            });
        }
        let answer = TokenAnswer {
            token: &token,
            expires_at,
        };
        append_json(&mut self.json, &answer);
        Ok(Served::Now)
    }
}

//! A client of the admin API and of REST: one request for each connection.

use std::net::SocketAddr;

use serde_json::Value;

use super::raw::{Raw, Response};

/// An HTTP API with its credential.
#[derive(Clone)]
pub(crate) struct Api {
    pub address: SocketAddr,
    pub bearer: String,
}

impl Api {
    /// Sends a request and reads the answer.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let mut raw = Raw::open(self.address);
        raw.write(self.request(method, path, body));
        raw.response()
    }

    /// Sends a request and reads the answer; nothing when the server is gone.
    pub(crate) fn attempt(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Response> {
        let mut raw = Raw::try_open(self.address)?;
        raw.write_while_taken(self.request(method, path, body));
        raw.try_response()
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> String {
        let body = body.map_or(String::new(), Value::to_string);
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.bearer,
            body.len()
        )
    }

    /// The object in a good answer of this status.
    #[track_caller]
    pub(crate) fn done(
        &self,
        status: u16,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Value {
        let response = self.call(method, path, body);
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
        response.json()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.done(200, "GET", path, None)
    }

    #[track_caller]
    pub(crate) fn create(&self, path: &str, body: &Value) -> Value {
        self.done(201, "POST", path, Some(body))
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Value {
        self.done(200, "PATCH", path, Some(body))
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Value {
        self.done(200, "DELETE", path, None)
    }
}

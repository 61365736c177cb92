//! A client of the admin API and of REST: one request for each connection.

use std::net::SocketAddr;

use serde_json::Value;

use super::raw::{Raw, Response};

/// An HTTP API with its credential.
#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    pub bearer: String,
}

impl Api {
    /// Sends a request and reads the answer.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let mut raw = Raw::open(self.address);
        raw.write(self.request(method, path, body));
        raw.response()
    }

    /// The bytes of a request.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> String {
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
    pub fn done(&self, status: u16, method: &str, path: &str, body: Option<&Value>) -> Value {
        let response = self.call(method, path, body);
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
        response.json()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.done(200, "GET", path, None)
    }

    #[track_caller]
    pub fn create(&self, path: &str, body: &Value) -> Value {
        self.done(201, "POST", path, Some(body))
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Value {
        self.done(200, "PATCH", path, Some(body))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Value {
        self.done(200, "DELETE", path, None)
    }
}

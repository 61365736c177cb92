//! What a line looks like, changeable while other threads log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::config::LogFormat;

/// The present format. Clones share it.
#[derive(Clone)]
pub(super) struct Form {
    is_json: Arc<AtomicBool>,
}

impl Form {
    pub(super) fn new(format: LogFormat) -> Self {
        let form = Self {
            is_json: Arc::default(),
        };
        form.set(format);
        form
    }

    pub(super) fn set(&self, format: LogFormat) {
        let is_json = format == LogFormat::Json;
        self.is_json.store(is_json, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> LogFormat {
        match self.is_json.load(Ordering::Relaxed) {
            true => LogFormat::Json,
            false => LogFormat::Text,
        }
    }
}

/// Gives each event to the layer of the present format. There are no spans.
pub(super) struct Lines<T, J> {
    pub(super) form: Form,
    pub(super) text: T,
    pub(super) json: J,
}

impl<S: Subscriber, T: Layer<S>, J: Layer<S>> Layer<S> for Lines<T, J> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        match self.form.get() {
            LogFormat::Text => self.text.on_event(event, context),
            LogFormat::Json => self.json.on_event(event, context),
        }
    }
}

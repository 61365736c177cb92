//! What a check has found: one line each, or JSON, and the exit code that follows.

use serde::Serialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::terminal::{BAD, DOUBTFUL, GOOD, Terminal, json as json_text, print, printable};
use crate::redact::redacted;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Good.
    Ok,
    /// Somebody should look at it.
    Warn,
    /// The server would not start, or not do what it is for.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// How it is.
    pub level: Level,
    /// What was looked at.
    pub check: &'static str,
    /// Where it is, if it is in a file or a variable.
    pub place: Option<String>,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// Cause and remedy, on one line.
    pub text: String,
    /// What to do about it, where that is told apart from the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All of them, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds something good.
    pub(crate) fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(Level::Ok, check, None, text.into());
    }

    /// Adds something to look at.
    pub(crate) fn warn(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(Level::Warn, check, None, text.into());
    }

    /// Adds something that is wrong.
    pub(crate) fn fail(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(Level::Fail, check, None, text.into());
    }

    /// Adds something with its place.
    pub(crate) fn add(
        &mut self,
        level: Level,
        check: &'static str,
        place: Option<String>,
        text: String,
    ) {
        // A configuration may have a secret where something else belongs.
        let place = place.map(|place| redacted(&place).into_owned());
        let text = redacted(&text).into_owned();
        self.0.push(Finding {
            level,
            check,
            place,
            measured: None,
            text,
            remedy: None,
        });
    }

    /// Adds something that was measured, with the reason why it matters. `remedy` is told unless
    /// it is good.
    pub(crate) fn measured(
        &mut self,
        level: Level,
        check: &'static str,
        measured: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding {
            level,
            check,
            place: None,
            measured: Some(measured.into()),
            text: reason.into(),
            remedy: (level != Level::Ok).then(|| remedy.into()),
        });
    }

    /// Returns all of them, in their order.
    #[cfg(test)]
    pub(crate) fn all(&self) -> &[Finding] {
        &self.0
    }

    fn worst(&self) -> Level {
        let levels = self.0.iter().map(|finding| finding.level);
        levels.max().unwrap_or(Level::Ok)
    }

    /// Prints all of them.
    ///
    /// # Errors
    /// Something is wrong, or with `strict` to be looked at; it has been printed then.
    pub(crate) fn report(&self, strict: bool, terminal: &Terminal) -> Result<(), Failure> {
        self.report_with(strict, terminal, &[]).map_err(|failure| {
            match failure.message.is_empty() {
                true => Failure::usage(""),
                false => failure,
            }
        })
    }

    /// Prints all of them, and what else there is to say: for people, and for programs.
    ///
    /// # Errors
    /// As [`report`](Self::report), with exit code 1.
    pub(crate) fn report_with(
        &self,
        strict: bool,
        terminal: &Terminal,
        more: &[(&str, String, Value)],
    ) -> Result<(), Failure> {
        let text = if terminal.json {
            let mut report = json!({"verdict": self.worst(), "findings": self.0});
            for (name, _, value) in more {
                report[*name] = value.clone();
            }
            json_text(&report)
        } else {
            let lines = self.0.iter().map(|finding| line(finding, terminal));
            let more = more.iter().map(|(_, text, _)| text.clone());
            lines.chain(more).collect()
        };
        print(text)?;
        let number = |level| self.0.iter().filter(|it| it.level == level).count();
        let (warnings, failures) = (number(Level::Warn), number(Level::Fail));
        if failures + warnings > 0 {
            terminal.note(&format!("{failures} fail, {warnings} warn"));
        }
        let bad = if strict { Level::Warn } else { Level::Fail };
        match self.worst() >= bad {
            true => Err(Failure::failed("")),
            false => Ok(()),
        }
    }
}

fn line(finding: &Finding, terminal: &Terminal) -> String {
    let level = match finding.level {
        Level::Ok => terminal.styled(GOOD, "ok  "),
        Level::Warn => terminal.styled(DOUBTFUL, "warn"),
        Level::Fail => terminal.styled(BAD, "fail"),
    };
    let mut text = printable(&finding.text);
    if let Some(measured) = &finding.measured {
        text = format!("{}; {text}", printable(measured));
    }
    if let Some(remedy) = &finding.remedy {
        text = format!("{text}; {}", printable(remedy));
    }
    match &finding.place {
        Some(place) => format!("{level}  {}: {text}\n", printable(place)),
        None => format!("{level}  {}: {text}\n", finding.check),
    }
}

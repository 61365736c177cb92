//! The parameters of a feed.

use std::time::Duration;

/// Events of an answer if nothing is said.
const LIMIT: usize = 500;
const LIMIT_MAX: usize = 1_000;
/// How long an answer waits for events at most, and if nothing is said, in milliseconds.
const WAIT_MS_MAX: u64 = 25_000;

/// What is asked of a feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The cursor; `None`: one is wanted.
    pub after: Option<String>,
    pub limit: usize,
    pub wait: Duration,
}

impl Question {
    /// # Errors
    /// What is wrong with the first parameter that is.
    pub(super) fn parse(given: Vec<(String, String)>) -> Result<Self, String> {
        let mut question = Self {
            after: None,
            limit: LIMIT,
            wait: Duration::from_millis(WAIT_MS_MAX),
        };
        for (name, value) in &given {
            let number = || value.parse::<u64>().ok();
            match name.as_str() {
                "after" => question.after = Some(value.clone()).filter(|it| !it.is_empty()),
                "limit" => {
                    let limit = number().and_then(|it| usize::try_from(it).ok());
                    let limit = limit.filter(|it| (1..=LIMIT_MAX).contains(it));
                    let rule = || format!("limit: must be a number from 1 to {LIMIT_MAX}");
                    question.limit = limit.ok_or_else(rule)?;
                }
                "waitMs" => {
                    let wait_ms = number().filter(|it| *it <= WAIT_MS_MAX);
                    let rule = || format!("waitMs: must be a number from 0 to {WAIT_MS_MAX}");
                    question.wait = Duration::from_millis(wait_ms.ok_or_else(rule)?);
                }
                _ => return Err(format!("{name}: there is no such parameter")),
            }
        }
        Ok(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Question, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Question::parse(given.iter().map(owned).collect())
    }

    #[test]
    fn every_parameter_has_a_range() {
        let all = [("after", "k-1.2-3"), ("limit", "1000"), ("waitMs", "0")];
        let question = parse(&all).unwrap();
        assert_eq!(question.after.as_deref(), Some("k-1.2-3"));
        assert_eq!((question.limit, question.wait), (1_000, Duration::ZERO));
        assert_eq!(parse(&[("after", "")]).unwrap().after, None);
        for (given, fault) in [
            ([("limit", "0")], "limit: "),
            ([("limit", "1001")], "limit: "),
            ([("limit", "-1")], "limit: "),
            ([("waitMs", "25001")], "waitMs: "),
            ([("waitMs", "1s")], "waitMs: "),
            ([("wait", "1")], "wait: there is no such parameter"),
        ] {
            let error = parse(&given).unwrap_err();
            assert!(error.starts_with(fault), "{error}");
        }
    }
}

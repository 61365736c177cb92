//! A pattern's source as tokens. Adjacent stars that mean the same as one come out as one.

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A byte that stands for itself.
    Literal(u8),
    /// `*`: any run of bytes without `/`.
    Star,
    /// `**`: any run of bytes.
    DoubleStar,
}

/// Iterates over the tokens of a pattern's source, or of what is left of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'p> {
    rest: &'p [u8],
}

impl<'p> Tokens<'p> {
    /// The tokens of a source, or of the part of one that begins with a whole token.
    pub(super) fn of(source: &'p [u8]) -> Self {
        Self { rest: source }
    }

    /// The source that has not been read yet.
    pub(super) fn rest(&self) -> &'p [u8] {
        self.rest
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let (token, rest) = match self.rest {
            [] => return None,
            [b'\\', escaped @ (b'*' | b'\\'), rest @ ..] => (Token::Literal(*escaped), rest),
            [b'*', b'*', rest @ ..] => {
                let more_stars = rest.iter().take_while(|&&byte| byte == b'*').count();
                // `more_stars` counts elements of `rest`: the split cannot panic.
                (Token::DoubleStar, rest.split_at(more_stars).1)
            }
            [b'*', rest @ ..] => (Token::Star, rest),
            [byte, rest @ ..] => (Token::Literal(*byte), rest),
        };
        self.rest = rest;
        Some(token)
    }
}

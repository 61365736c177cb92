//! `ringmesh stats --watch` on a terminal: four pages that are drawn again and again, and the keys
//! that lead through them.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::client::{ORDERS, Part};
use super::failure::Failure;
use super::table::at_the_end;
use super::terminal::{HEAD, Terminal};

/// The exit code of Ctrl-C: that of a shell for SIGINT.
const INTERRUPTED: u8 = 130;
/// What a terminal in raw mode sends for it.
const CONTROL_C: u8 = 3;
const ESCAPE: u8 = 27;
/// Begin and end of a screen of its own, without a cursor (ECMA-48, and xterm's private modes).
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// Puts the cursor home, and clears what is behind it in its line.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
/// Columns that the last line takes.
const STATUS_COLUMNS: usize = 76;
/// Rows and columns of a terminal that does not say.
const SIZE_DEFAULT: (u16, u16) = (24, 80);

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Shards,
    Connections,
    Events,
}

impl Page {
    const ALL: [(Self, &str); 4] = [
        (Self::Overview, "overview"),
        (Self::Shards, "shards"),
        (Self::Connections, "connections"),
        (Self::Events, "events"),
    ];

    /// The parts of the report that it has.
    pub(super) fn parts(self) -> &'static [Part] {
        match self {
            Self::Overview => &[Part::Node, Part::Sums, Part::Latency],
            Self::Shards => &[Part::Node, Part::Shards],
            Self::Connections => &[Part::Node, Part::Connections],
            Self::Events => &[Part::Node],
        }
    }
}

/// Where somebody is who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub page: Page,
    /// Nothing new is asked for.
    pub is_paused: bool,
    /// By which column rows are sorted: one of [`ORDERS`].
    pub order: usize,
    /// The keys are shown instead.
    shows_keys: bool,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    Draw,
    /// What is shown is asked for at once.
    Ask,
    Quit,
    Interrupt,
}

impl State {
    pub(super) fn new(page: Page) -> Self {
        Self {
            page,
            is_paused: false,
            order: 0,
            shows_keys: false,
        }
    }

    /// What one read of a terminal in raw mode has brought: a key, as its bytes.
    fn key(&mut self, bytes: &[u8]) -> Wish {
        match bytes {
            [CONTROL_C, ..] => return Wish::Interrupt,
            [b'q', ..] => return Wish::Quit,
            // Alone it is the key; other keys are longer sequences that begin with it.
            [ESCAPE] if self.shows_keys => self.shows_keys = false,
            [ESCAPE] => return Wish::Quit,
            [b'?', ..] => self.shows_keys = !self.shows_keys,
            [b'p', ..] => {
                self.is_paused = !self.is_paused;
                return if self.is_paused {
                    Wish::Draw
                } else {
                    Wish::Ask
                };
            }
            [b's', ..] => self.order = (self.order + 1) % ORDERS.len(),
            [digit @ b'1'..=b'4', ..] => {
                let at = usize::from(digit - b'1');
                self.page = Page::ALL[at].0;
                self.shows_keys = false;
                return Wish::Ask;
            }
            _ => return Wish::Nothing,
        }
        Wish::Draw
    }

    /// The last line: where one is, and which keys there are.
    fn status(&self, terminal: &Terminal) -> String {
        let mut line = String::new();
        for (at, (page, name)) in Self::pages() {
            let text = format!("{} {name}", at + 1);
            let shown = match page == self.page {
                true => terminal.styled(HEAD, &format!("[{text}]")),
                false => format!(" {text} "),
            };
            line += &shown;
        }
        let state = if self.is_paused { "  paused" } else { "" };
        format!("{line}  ? keys  q quit{state}")
    }

    fn pages() -> impl Iterator<Item = (usize, (Page, &'static str))> {
        Page::ALL.into_iter().enumerate()
    }

    fn keys(&self) -> String {
        let order = ORDERS[self.order];
        format!(
            "1-4  overview, shards, connections, events\n\
             p    pause, and go on\n\
             s    sort rows by the next column; now by {order}\n\
             ?    these keys\n\
             q    quit, as Esc does\n"
        )
    }

    /// What fills the screen: the text cut to what fits, and the last line.
    pub(super) fn screen(&self, text: &str, terminal: &Terminal, rows: usize) -> Vec<String> {
        let keys = self.keys();
        let text = if self.shows_keys { &keys } else { text };
        let room = rows.saturating_sub(1);
        let lines: Vec<_> = text.lines().collect();
        // Of events the last ones count.
        let skipped = match self.page {
            Page::Events if !self.shows_keys => lines.len().saturating_sub(room),
            _ => 0,
        };
        let shown = lines.iter().skip(skipped).take(room);
        let mut shown: Vec<_> = shown.map(|line| fitted(line, terminal)).collect();
        shown.resize(room, String::new());
        shown.push(match terminal.width {
            Some(0..STATUS_COLUMNS) => fitted("1-4 pages  ? keys  q quit", terminal),
            _ => self.status(terminal),
        });
        shown
    }
}

/// A line that does not wrap. What has colours has been fitted.
fn fitted(line: &str, terminal: &Terminal) -> String {
    match terminal.width {
        Some(width) if !line.contains('\u{1b}') => at_the_end(line, width),
        _ => line.to_owned(),
    }
}

/// A terminal that is drawn on, and given back as it was.
struct Screen {
    before: Termios,
}

impl Screen {
    fn open() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let opened = Self { before };
        write!(io::stdout(), "{OPEN}")?;
        Ok(opened)
    }

    /// Rows and columns.
    fn size() -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok();
        let size = size.filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) = size.map_or(SIZE_DEFAULT, |size| (size.ws_row, size.ws_col));
        (rows.into(), columns.into())
    }

    fn draw(lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let lines: Vec<_> = lines
            .iter()
            .map(|line| format!("{line}{CLEAR_LINE}"))
            .collect();
        write!(out, "{HOME}{}", lines.join("\r\n"))?;
        out.flush()
    }

    /// The bytes of a key that was pressed; none when the time is over. A signal, such as that of
    /// another size, ends the wait too.
    fn key(time: Duration) -> io::Result<Vec<u8>> {
        let input = io::stdin();
        let mut ready = [PollFd::new(&input, PollFlags::IN)];
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        match poll(&mut ready, Some(&time)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 16];
        let length = rustix::io::read(&input, &mut bytes)?;
        match length {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => Ok(bytes[..length].to_vec()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to be told when the terminal is gone.
        let _ = write!(io::stdout(), "{CLOSE}");
        let _ = io::stdout().flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Shows pages until somebody quits. `ask` brings what is known, each time that it is called, and
/// `show` makes a page of what it brought last.
///
/// # Errors
/// The terminal is gone, or `ask` fails.
pub(super) fn run<T>(
    every: Duration,
    page: Page,
    terminal: Terminal,
    mut ask: impl FnMut(&State) -> Result<T, Failure>,
    show: impl Fn(&T, &State, &Terminal) -> String,
) -> Result<(), Failure> {
    let mut state = State::new(page);
    let mut known = ask(&state)?;
    let _screen = Screen::open().map_err(Failure::failed)?;
    let mut asked = Instant::now();
    let mut wish = Wish::Draw;
    let mut drawn = Screen::size();
    loop {
        if wish == Wish::Ask || !state.is_paused && asked.elapsed() >= every {
            asked = Instant::now();
            known = ask(&state)?;
            wish = Wish::Draw;
        }
        if wish == Wish::Draw {
            drawn = Screen::size();
            let sized = Terminal {
                width: Some(drawn.1),
                ..terminal
            };
            let text = show(&known, &state, &sized);
            let lines = state.screen(&text, &sized, drawn.0);
            Screen::draw(&lines).map_err(Failure::failed)?;
        }
        // Who has paused may have made the terminal another size.
        let left = match state.is_paused {
            true => every,
            false => every.saturating_sub(asked.elapsed()),
        };
        wish = state.key(&Screen::key(left).map_err(Failure::failed)?);
        if wish == Wish::Nothing && Screen::size() != drawn {
            wish = Wish::Draw;
        }
        match wish {
            Wish::Quit => return Ok(()),
            Wish::Interrupt => {
                return Err(Failure {
                    exit_code: INTERRUPTED,
                    message: String::new(),
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(state: &mut State, char: char) -> Wish {
        state.key(&[char as u8])
    }

    #[test]
    fn keys_lead_through_the_pages() {
        let mut state = State::new(Page::Overview);
        for (char, page) in [
            ('2', Page::Shards),
            ('3', Page::Connections),
            ('4', Page::Events),
            ('1', Page::Overview),
        ] {
            assert_eq!((press(&mut state, char), state.page), (Wish::Ask, page));
        }
        assert_eq!(
            (press(&mut state, 'p'), state.is_paused),
            (Wish::Draw, true)
        );
        assert_eq!(
            (press(&mut state, 'p'), state.is_paused),
            (Wish::Ask, false)
        );
        for at in (1..ORDERS.len()).chain([0]) {
            assert_eq!((press(&mut state, 's'), state.order), (Wish::Draw, at));
        }
        assert_eq!(press(&mut state, 'x'), Wish::Nothing);
        assert_eq!(press(&mut state, 'q'), Wish::Quit);
        assert_eq!(state.key(&[CONTROL_C]), Wish::Interrupt);
        assert_eq!(state.key(b"\x1b[A"), Wish::Nothing);
        assert_eq!(state.key(&[]), Wish::Nothing);
        assert_eq!(state.key(&[ESCAPE]), Wish::Quit);
    }

    #[test]
    fn the_screen_is_full_and_no_fuller() {
        let terminal = Terminal::default();
        let mut state = State::new(Page::Events);
        let text: String = (0..9).map(|at| format!("line {at}\n")).collect();
        let screen = state.screen(&text, &terminal, 5);
        assert_eq!(screen[..4], ["line 5", "line 6", "line 7", "line 8"]);
        let last = " 1 overview  2 shards  3 connections [4 events]  ? keys  q quit";
        assert_eq!(screen[4], last);
        assert!(last.len() < 80);
        state.page = Page::Shards;
        assert_eq!(state.screen(&text, &terminal, 5)[0], "line 0");
        assert_eq!(state.screen("short\n", &terminal, 4).len(), 4);
        assert_eq!(press(&mut state, '?'), Wish::Draw);
        assert!(state.screen(&text, &terminal, 9)[0].starts_with("1-4  overview"));
        press(&mut state, 'p');
        let narrow = Terminal {
            width: Some(20),
            ..terminal
        };
        for line in state.screen(&text, &narrow, 9) {
            assert!(line.chars().count() <= 20, "{line}");
        }
        let status = state.screen(&text, &terminal, 1);
        assert!(status[0].ends_with("  paused"), "{status:?}");
    }
}

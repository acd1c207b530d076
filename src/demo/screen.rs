//! What the demo says: lines, and on a terminal one line that is written over.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Without a terminal progress is a line now and then.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Standard output. A reader that has seen enough is no failure, so errors of writing are dropped.
pub struct Screen {
    terminal: bool,
    /// A line of progress stands there.
    dirty: bool,
    last: Option<Instant>,
}

impl Screen {
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), dirty: false, last: None }
    }

    /// A line that stays.
    pub fn say(&mut self, line: &str) {
        let mut out = io::stdout().lock();
        let clear = if self.dirty { "\r\x1b[K" } else { "" };
        self.dirty = false;
        let _reader_gone = writeln!(out, "{clear}{line}").and_then(|()| out.flush());
    }

    /// How far it is.
    pub fn progress(&mut self, line: &str) {
        let mut out = io::stdout().lock();
        if self.terminal {
            self.dirty = true;
            let _reader_gone = write!(out, "\r\x1b[K  {line}").and_then(|()| out.flush());
        } else if self.last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
            self.last = Some(Instant::now());
            let _reader_gone = writeln!(out, "  {line}").and_then(|()| out.flush());
        }
    }

    /// A table: the first row is its head, the first column words, the others numbers.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
            });
            let line = format!("  {}", cells.collect::<Vec<_>>().join("  "));
            self.say(line.trim_end());
        }
    }
}

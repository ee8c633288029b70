//! A progress bar on standard error: only on a terminal, and only for work that takes a while.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Work that is over before this needs no bar.
const PATIENCE: Duration = Duration::from_millis(700);

/// The progress of one piece of work; the bar goes away with it.
pub struct Progress {
    what: &'static str,
    begun: Instant,
    bar: Option<ProgressBar>,
    terminal: bool,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(what: &'static str) -> Progress {
        Progress { what, begun: Instant::now(), bar: None, terminal: std::io::stderr().is_terminal() }
    }

    /// So many of so many steps are done.
    pub fn step(&mut self, done: usize, total: usize) {
        if !self.terminal || (self.bar.is_none() && self.begun.elapsed() < PATIENCE) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total as u64).with_prefix(self.what);
            if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

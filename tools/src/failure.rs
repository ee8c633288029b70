//! What ends a command, and with which exit code.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use codespan_reporting::diagnostic::Severity;
use codespan_reporting::diagnostic::{self, Label, LabelStyle};
use codespan_reporting::term;
use codespan_reporting::term::termcolor::{ColorChoice, StandardStream};
use loom_ir::diagnostics::{Diagnostic, Span};
use loom_runtime::artifact::ArtifactError;
use loom_runtime::compare::CompareError;
use loom_runtime::executor::ExecuteError;
use loom_runtime::report::ReportError;
use loom_runtime::session::{RunError, SessionError};
use loom_runtime::storage::{ConvertError, StorageError};
use loom_runtime::tensors::TensorError;
use loom_runtime::weights::{InitialiseError, WeightsError};

use crate::excerpt::Excerpt;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The answer is no; it was printed.
    No,
    /// Mistakes in a network's config, with their places.
    Config {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
        /// The mistakes.
        diagnostics: Vec<Diagnostic>,
        /// How many more there are.
        left_out: usize,
    },
    /// Any other mistake of the user's: a path, a file, a value.
    User(String),
    /// No such device on this machine or in this build, or it failed.
    NoDevice(String),
    /// A defect of Loom.
    Internal(String),
    /// Whoever read the output has gone.
    ReaderGone,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::ReaderGone => 0,
            Failure::No => 1,
            Failure::Config { .. } | Failure::User(_) => 2,
            Failure::NoDevice(_) => 3,
            Failure::Internal(_) => 70,
        }
    }

    /// Says on standard error what is wrong.
    pub fn report(&self) -> ExitCode {
        match self {
            Failure::No | Failure::ReaderGone => {}
            Failure::Config { path, text, diagnostics, left_out } => {
                let text = printable(text);
                for diagnostic in diagnostics {
                    located(path, &text, diagnostic, Severity::Error);
                }
                if *left_out > 0 {
                    plain(&format!("and {left_out} more mistakes"));
                }
            }
            Failure::User(message) | Failure::NoDevice(message) => plain(message),
            Failure::Internal(message) if message.starts_with("internal error") => plain(message),
            Failure::Internal(message) => plain(&format!("internal error, please report it: {message}")),
        }
        ExitCode::from(self.code())
    }
}

fn plain(message: &str) {
    let none = Excerpt::new(String::new(), "", &[]);
    emit(&none, &diagnostic::Diagnostic::error().with_message(printable(message)));
}

fn emit(file: &Excerpt, diagnostic: &diagnostic::Diagnostic<()>) {
    let mut stream = StandardStream::stderr(color());
    let config = term::Config::default();
    // Where standard error is gone there is nowhere left to complain.
    let _ = term::emit_to_write_style(&mut stream, &config, file, diagnostic);
}

fn color() -> ColorChoice {
    use std::io::IsTerminal;
    let wanted = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { ColorChoice::Auto } else { ColorChoice::Never }
}

/// Tells about something in a file that is no mistake: a note, or a warning.
pub fn tell(path: &Path, text: &str, diagnostic: &Diagnostic, severity: Severity) {
    located(path, &printable(text), diagnostic, severity);
}

/// Shows a message in its place.
fn located(path: &Path, text: &str, diagnostic: &Diagnostic, severity: Severity) {
    // A place at the very end is shown as the last character: there is nothing after it to underline.
    let range = |span: Span| span.start.min(text.len())..span.end.min(text.len());
    let labels = || diagnostic.primary.iter().chain(&diagnostic.secondary);
    let places: Vec<Range<usize>> = labels().map(|(span, _)| range(*span)).collect();
    let name = printable(&path.display().to_string());
    let message = printable(&diagnostic.message);
    // Without a place, nothing else would name the file.
    let message = if places.is_empty() { format!("{name}: {message}") } else { message };
    let excerpt = Excerpt::new(name, text, &places);
    let first = usize::from(diagnostic.primary.is_some());
    let label = |(index, (span, words)): (usize, &(Span, String))| {
        let style = if index < first { LabelStyle::Primary } else { LabelStyle::Secondary };
        Label::new(style, (), excerpt.range(range(*span))).with_message(printable(words))
    };
    let shown = diagnostic::Diagnostic::new(severity)
        .with_message(message)
        .with_labels(labels().enumerate().map(label).collect())
        .with_notes(diagnostic.help.iter().map(|help| format!("help: {}", printable(help))).collect());
    emit(&excerpt, &shown);
}

/// Text without characters that could steer a terminal; as many bytes as before, so that places stay right.
pub fn printable(text: &str) -> String {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    if text.chars().all(harmless) {
        return text.to_string();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut text, c| {
        if harmless(c) {
            text.push(c)
        } else {
            text.extend(std::iter::repeat_n('?', c.len_utf8()))
        }
        text
    })
}

impl From<TensorError> for Failure {
    fn from(error: TensorError) -> Failure {
        Failure::User(error.to_string())
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::User(error.to_string())
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Failure {
        Failure::User(error.to_string())
    }
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Failure {
        Failure::User(error.to_string())
    }
}

impl From<InitialiseError> for Failure {
    fn from(error: InitialiseError) -> Failure {
        Failure::User(error.to_string())
    }
}

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Failure {
        Failure::User(error.to_string())
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Failure {
        Failure::User(error.to_string())
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Failure {
        let text = error.to_string();
        match error {
            SessionError::NotCompiledIn(_) => Failure::NoDevice(text),
            SessionError::Device { source, .. } => of_device(&source, text),
            _ => Failure::User(text),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        let text = error.to_string();
        match error {
            RunError::Execute(source) => of_device(&source, text),
            _ => Failure::User(text),
        }
    }
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Failure {
        match error {
            CompareError::Session(error) => error.into(),
            CompareError::Run { device, source: RunError::Execute(source) } => {
                of_device(&source, format!("{device}: {source}"))
            }
            CompareError::Run { source, .. } => source.into(),
        }
    }
}

/// A network too large for a device is the user's to change; a device that fails is none.
fn of_device(error: &ExecuteError, text: String) -> Failure {
    match error {
        ExecuteError::Limit { .. } | ExecuteError::Memory { .. } => Failure::User(text),
        ExecuteError::NoDevice(_) | ExecuteError::Inexact { .. } | ExecuteError::Device(_) => Failure::NoDevice(text),
        ExecuteError::Internal(_) => Failure::Internal(text),
    }
}

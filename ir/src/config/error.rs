//! What can be wrong with a config, named for the user's mistake.

use std::fmt;

use super::network::LayerPath;
use super::schema;
use super::spanned::Spanned;
use crate::diagnostics::{self, Diagnostic, Span};
use crate::limits;

/// One mistake in a config.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// More than [`limits::MAX_CONFIG_BYTES`].
    #[error("the file has {bytes} bytes, but a network may have at most {most}")]
    FileTooLarge {
        /// The file's size.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// Nothing, or white space alone.
    #[error("the file is empty")]
    EmptyFile,
    /// The mark that some editors put at the start of a text.
    #[error("the file starts with a byte order mark")]
    ByteOrderMark {
        /// The mark.
        span: Span,
    },
    /// More than [`limits::MAX_CONFIG_DEPTH`] levels of lists and objects.
    #[error("lists and objects are nested more than {} deep", limits::MAX_CONFIG_DEPTH)]
    NestedTooDeep {
        /// The bracket that is too much.
        span: Span,
    },
    /// A syntax error.
    #[error("not valid JSON: {reason}")]
    NotJson {
        /// What is wrong.
        reason: String,
        /// What to do about it.
        help: Option<&'static str>,
        /// The word or the character where it went wrong.
        span: Span,
    },
    /// An object with more than [`limits::MAX_CONFIG_KEYS`] keys.
    #[error("{at} has {count} keys, but an object may have at most {}", limits::MAX_CONFIG_KEYS)]
    TooManyKeys {
        /// The object.
        at: At,
        /// How many keys it has.
        count: usize,
        /// The object.
        span: Span,
    },
    /// More than [`limits::MAX_LAYERS`] layers, nested ones included.
    #[error("the network has more than {} layers", limits::MAX_LAYERS)]
    TooManyLayers {
        /// The first layer that is too much.
        span: Span,
    },
    /// A network without layers.
    #[error("the network has no layers")]
    NoLayers {
        /// The empty list.
        span: Span,
    },
    /// The same key twice in one object.
    #[error("{at} is given twice")]
    DuplicateKey {
        /// The key.
        at: At,
        /// Where it stands first.
        first: Span,
        /// Where it stands again.
        again: Span,
    },
    /// A key that has to be there.
    #[error("{owner} needs `{key}`")]
    MissingKey {
        /// Whose key it is.
        owner: Owner,
        /// The key, as it is best spelled.
        key: &'static str,
        /// Other keys that say the same.
        instead: Vec<&'static str>,
        /// The layer's type, or the object if it has none.
        span: Span,
    },
    /// A key that the object can't have.
    #[error("{owner} has no key `{}`", Shown(&key.value))]
    UnknownKey {
        /// Whose key it isn't.
        owner: Owner,
        /// The key.
        key: Spanned<String>,
        /// The keys that it could have.
        known: Vec<&'static str>,
    },
    /// Two spellings of one key, where neither wins.
    #[error("{owner} has both `{first_key}` and `{second_key}`, which mean the same")]
    ConflictingKeys {
        /// Whose keys they are.
        owner: Owner,
        /// The one.
        first_key: &'static str,
        /// Its value.
        first: Span,
        /// The other.
        second_key: &'static str,
        /// Its value.
        second: Span,
    },
    /// A value of another type than the key takes.
    #[error("{at}: expected {expected}, found {found}")]
    WrongType {
        /// Whose value it is.
        at: At,
        /// What the key takes.
        expected: &'static str,
        /// What is there.
        found: &'static str,
        /// The value.
        span: Span,
    },
    /// A number that the key can't have.
    #[error("{at} must be {rule}, found {}", Shown(found))]
    NumberOutOfRange {
        /// Whose value it is.
        at: At,
        /// What the key takes.
        rule: &'static str,
        /// The number as it is written.
        found: String,
        /// The number.
        span: Span,
    },
    /// A list with too few or too many elements.
    #[error("{at}: expected {expected}, found {found}")]
    WrongLength {
        /// Whose value it is.
        at: At,
        /// What the key takes.
        expected: &'static str,
        /// How many elements there are.
        found: usize,
        /// The list.
        span: Span,
    },
    /// A name that means nothing.
    #[error("unknown {what} `{}`", Shown(&name.value))]
    UnknownName {
        /// What should have been named.
        what: &'static str,
        /// The name.
        name: Spanned<String>,
        /// What could have been meant: every spelling.
        spellings: Vec<&'static str>,
        /// What could have been written: each thing once.
        known: Vec<&'static str>,
    },
    /// A value that the format has and this release doesn't build.
    #[error("the {what} `{}` is not supported yet", Shown(&name.value))]
    Unsupported {
        /// What it is one of.
        what: &'static str,
        /// The value.
        name: Spanned<String>,
        /// What is supported.
        known: Vec<&'static str>,
    },
    /// A network in the predecessor's dialect, which is read by way of a translation.
    #[error("the network is in the dialect `{}`", name.value)]
    OtherDialect {
        /// The dialect.
        name: Spanned<String>,
    },
    /// A layer's name that another layer has.
    #[error("two layers are named `{}`", Shown(name))]
    DuplicateName {
        /// The name.
        name: String,
        /// Where it is given first.
        first: Span,
        /// Where it is given again.
        again: Span,
    },
    /// A layer named `input`, as the network's input is.
    #[error("a layer can't be named `input`")]
    ReservedName {
        /// The name.
        span: Span,
    },
    /// A name without characters.
    #[error("{at} is empty")]
    EmptyName {
        /// Whose value it is.
        at: At,
        /// The name.
        span: Span,
    },
    /// A cell that a grid doesn't have.
    #[error("{at} is {cell}, which is not less than `{size}`, {extent}")]
    OutsideGrid {
        /// Whose value it is.
        at: At,
        /// The index.
        cell: u64,
        /// The key of the grid's size.
        size: &'static str,
        /// The size.
        extent: u64,
        /// The position.
        span: Span,
    },
    /// A value that breaks a rule of its own.
    #[error("{at}: {rule}")]
    Rule {
        /// Whose value it is.
        at: At,
        /// What must hold.
        rule: &'static str,
        /// The value.
        span: Span,
    },
    /// A grid that the layers don't fill.
    #[error("{}", Grid { sizes, layers: *layers })]
    GridMismatch {
        /// The sizes given, with their keys; never empty.
        sizes: Vec<(&'static str, Spanned<u64>)>,
        /// How many layers the network's own list has.
        layers: usize,
        /// The list.
        layers_span: Span,
    },
}

/// The whole network, or one layer: what a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The network.
    Network,
    /// A layer.
    Layer {
        /// Which.
        path: LayerPath,
        /// Its type, if that is known.
        type_name: Option<&'static str>,
        /// Its activation or variant, if its keys depend on one.
        choice: Option<&'static str>,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Network => f.write_str("the network"),
            Owner::Layer { path, type_name: Some(name), choice: Some(choice) } => {
                write!(f, "{path} (`{name}` with `{choice}`)")
            }
            Owner::Layer { path, type_name: Some(name), choice: None } => write!(f, "{path} (`{name}`)"),
            Owner::Layer { path, type_name: None, choice: _ } => write!(f, "{path}"),
        }
    }
}

/// A value's place in words: the network or a layer, a key, an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The layer; none for a value of the network itself.
    pub layer: Option<LayerPath>,
    /// The key; none for the whole object.
    pub key: Option<String>,
    /// The index, for an element of the key's list.
    pub index: Option<usize>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.layer, &self.key) {
            (None, None) => return f.write_str("the network"),
            (Some(layer), None) => write!(f, "`{layer}")?,
            (None, Some(key)) => write!(f, "`{}", Shown(key))?,
            (Some(layer), Some(key)) => write!(f, "`{layer}.{}", Shown(key))?,
        }
        match self.index {
            Some(index) => write!(f, ".{index}`"),
            None => f.write_str("`"),
        }
    }
}

/// Text from the file, made fit for a message: short, and without characters that would move a terminal's cursor.
struct Shown<'a>(&'a str);

impl Shown<'_> {
    const LONGEST: usize = 60;
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, character) in self.0.chars().enumerate() {
            if count == Shown::LONGEST {
                return f.write_str("…");
            }
            if character.is_control() || is_invisible(character) {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// Characters that change how the text around them is shown.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The message about a grid.
struct Grid<'a> {
    sizes: &'a [(&'static str, Spanned<u64>)],
    layers: usize,
}

impl fmt::Display for Grid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.sizes.iter().map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(" × ");
        let factors = self.sizes.iter().map(|(_, size)| size.value.to_string()).collect::<Vec<_>>().join(" × ");
        let layers = self.layers;
        let cells = match grid_cells(self.sizes) {
            Some(cells) if self.sizes.len() == 1 => format!("{cells}"),
            Some(cells) => format!("{factors} = {cells}"),
            None => factors,
        };
        if self.sizes.len() == GRID_AXES {
            write!(f, "{keys} is {cells}, but the network has {layers} layers")
        } else {
            write!(f, "{keys} is {cells}, which doesn't divide the network's {layers} layers")
        }
    }
}

/// Rows, columns and layers in a cell.
pub(super) const GRID_AXES: usize = 3;

/// The product of the grid's sizes, unless it is beyond counting.
pub(super) fn grid_cells(sizes: &[(&'static str, Spanned<u64>)]) -> Option<u128> {
    sizes.iter().try_fold(1_u128, |cells, (_, size)| cells.checked_mul(u128::from(size.value)))
}

impl ConfigError {
    /// The first byte that the error is about.
    pub(super) fn position(&self) -> usize {
        self.diagnostic().primary.map_or(0, |(span, _)| span.start)
    }

    /// The error as it is shown: its message, what to underline, and what to do about it.
    pub fn diagnostic(&self) -> Diagnostic {
        let message = Diagnostic::new(self.to_string());
        match self {
            ConfigError::FileTooLarge { .. } => message,
            ConfigError::EmptyFile => message.help(format!("the smallest network is {SMALLEST}")),
            ConfigError::ByteOrderMark { span } => {
                message.at(*span, "not part of JSON").help("save the file as UTF-8 without a byte order mark")
            }
            ConfigError::NestedTooDeep { span } => message.at(*span, "one level too many"),
            ConfigError::NotJson { reason: _, help, span } => {
                let message = message.at(*span, "here");
                help.iter().fold(message, |message, help| message.help(*help))
            }
            ConfigError::TooManyKeys { span, .. } => message.at(*span, "this object"),
            ConfigError::TooManyLayers { span } => message.at(*span, "the first layer too many"),
            ConfigError::NoLayers { span } => message.at(*span, "expected at least one layer"),
            ConfigError::DuplicateKey { first, again, .. } => {
                message.at(*again, "given again").also(*first, "first given here").help("remove one of the two")
            }
            ConfigError::MissingKey { key, instead, span, .. } => {
                let message = message.at(*span, format!("`{key}` is missing"));
                if instead.is_empty() {
                    return message;
                }
                message.help(format!("`{key}` can also be spelled {}", listed(instead.iter().copied(), "or")))
            }
            ConfigError::UnknownKey { owner, key, known } => unknown_key(message, owner, key, known),
            ConfigError::ConflictingKeys { first, second, .. } => {
                message.at(*second, "given again").also(*first, "first given here").help("remove one of the two")
            }
            ConfigError::WrongType { expected, span, .. } => message.at(*span, format!("expected {expected}")),
            ConfigError::NumberOutOfRange { rule, span, .. } => message.at(*span, format!("must be {rule}")),
            ConfigError::WrongLength { expected, span, .. } => message.at(*span, format!("expected {expected}")),
            ConfigError::UnknownName { what, name, spellings, known } => {
                let message = message.at(name.span, format!("no such {what}"));
                match diagnostics::nearest(&name.value, spellings.iter().copied()) {
                    Some(near) => message.help(did_you_mean(near)),
                    None => message.help(format!("known are {}", listed(known.iter().copied(), "and"))),
                }
            }
            ConfigError::Unsupported { name, known, .. } => message
                .at(name.span, "not supported yet")
                .help(format!("supported: {}", listed(known.iter().copied(), "and"))),
            ConfigError::OtherDialect { name } => message
                .at(name.span, "read by way of a translation")
                .help("`loomc convert` writes it as a network of this dialect"),
            ConfigError::OutsideGrid { span, .. } => message.at(*span, "outside the grid"),
            ConfigError::Rule { span, .. } => message.at(*span, "here"),
            ConfigError::DuplicateName { first, again, .. } => {
                message.at(*again, "given again").also(*first, "first given here")
            }
            ConfigError::ReservedName { span } => {
                message.at(*span, "the name of the network's input").help("choose another name")
            }
            ConfigError::EmptyName { span, .. } => message.at(*span, "expected at least one character"),
            ConfigError::GridMismatch { sizes, layers, layers_span } => {
                let mut sizes = sizes.iter();
                let message = match sizes.next() {
                    Some((key, size)) => message.at(size.span, format!("`{key}`")),
                    None => message,
                };
                sizes
                    .fold(message, |message, (key, size)| message.also(size.span, format!("`{key}`")))
                    .also(*layers_span, format!("{layers} layers"))
                    .help("the grid changes nothing that is computed: the three keys can be left out")
            }
        }
    }
}

const SMALLEST: &str = r#"{"layers": [{"type": "dense", "input_size": 4, "output_size": 2}]}"#;

fn unknown_key(message: Diagnostic, owner: &Owner, key: &Spanned<String>, known: &[&'static str]) -> Diagnostic {
    let message = message.at(key.span, "unknown key");
    let near = diagnostics::nearest(&key.value, known.iter().copied()).map(did_you_mean);
    let homes = schema::owners_of(&key.value);
    let home = (!homes.is_empty()).then(|| {
        let homes =
            homes.iter().map(|&home| if home == schema::NETWORK { home.to_owned() } else { format!("`{home}`") });
        format!("`{}` belongs to {}", key.value, joined(homes.collect(), "and"))
    });
    message.help(match (near, home) {
        (Some(near), Some(home)) => format!("{home}; {near}"),
        (Some(help), None) | (None, Some(help)) => help,
        (None, None) if known.is_empty() => format!("{owner} has no keys"),
        (None, None) => format!("known are {}", listed(known.iter().copied(), "and")),
    })
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

/// "`a`, `b` and `c`"
fn listed<'a>(names: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    joined(names.into_iter().map(|name| format!("`{name}`")).collect(), last)
}

fn joined(names: Vec<String>, last: &str) -> String {
    match names.as_slice() {
        [] => String::new(),
        [name] => name.clone(),
        [names @ .., name] => format!("{} {last} {name}", names.join(", ")),
    }
}

/// All that is wrong with one config, in the file's order; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    left_out: usize,
}

impl ConfigErrors {
    pub(super) fn new(mut errors: Vec<ConfigError>, left_out: usize) -> ConfigErrors {
        errors.sort_by_cached_key(ConfigError::position);
        ConfigErrors { errors, left_out }
    }

    /// The errors, at most [`limits::MAX_CONFIG_ERRORS`] of them.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.errors.iter()
    }

    /// How many more there are than [`iter`](Self::iter) gives.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The errors as they are shown; a last one says how many are left out, if any are.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let more = (self.left_out > 0).then(|| Diagnostic::new(format!("{} more errors are not shown", self.left_out)));
        self.errors.iter().map(ConfigError::diagnostic).chain(more).collect()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors { errors: vec![error], left_out: 0 }
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, error) in self.errors.iter().enumerate() {
            let line = if count == 0 { "" } else { "\n" };
            write!(f, "{line}{error}")?;
        }
        match self.left_out {
            0 => Ok(()),
            more => write!(f, "\n{more} more errors are not shown"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

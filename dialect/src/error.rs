//! What can be wrong with a file of the predecessor's, and what is worth knowing about one that is right.

use std::fmt;

use loom_ir::config::{ConfigError, LayerPath};
use loom_ir::diagnostics::{Diagnostic, Span};
use loom_ir::limits;

/// One mistake in an old network, or something in it that can't be translated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DialectError {
    /// The text is wrong: its syntax, a key's type, a layer's name, the grid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The first layers do not tell how large a sample is.
    #[error("the size of the network's input is not known")]
    NoInputShape {
        /// The first layer.
        span: Span,
    },
    /// A layer that reads more numbers than reach it. (The predecessor read zeros, or stopped.)
    #[error("{path}: reads {needed} numbers of a sample, but {found} reach it")]
    TooShort {
        /// The layer.
        path: LayerPath,
        /// What its keys say.
        needed: u64,
        /// What there is.
        found: u64,
        /// The layer.
        span: Span,
    },
    /// A layer whose rows do not make up what reaches it.
    #[error("{path}: {found} numbers reach it, which are no whole rows of {size}")]
    NotRows {
        /// The layer.
        path: LayerPath,
        /// A row.
        size: u64,
        /// What there is.
        found: u64,
        /// The layer.
        span: Span,
    },
    /// A layer that takes just so many numbers.
    #[error("{path}: takes {needed} numbers a sample, but {found} reach it")]
    WrongLength {
        /// The layer.
        path: LayerPath,
        /// What its keys say.
        needed: u64,
        /// What there is.
        found: u64,
        /// The layer.
        span: Span,
    },
    /// A kernel larger than what it slides over.
    #[error("{path}: a kernel of {kernel} does not fit into {extent} positions with padding {padding}")]
    Window {
        /// The layer.
        path: LayerPath,
        /// The kernel's size.
        kernel: u64,
        /// The positions.
        extent: u64,
        /// Added at each end.
        padding: u64,
        /// The layer.
        span: Span,
    },
    /// Sizes over the limits.
    #[error("{path}: a tensor has fewer than 2^31 elements and at most 8 axes, here one would have more")]
    TooLarge {
        /// The layer.
        path: LayerPath,
        /// The layer.
        span: Span,
    },
    /// A network that is nested too deep when its quirks are spelled out.
    #[error("spelled out, the network is nested more than {} deep", limits::MAX_CONFIG_DEPTH)]
    TooDeep {
        /// The layer.
        span: Span,
    },
    /// A network of too many layers when its quirks are spelled out.
    #[error("spelled out, the network has more than {} layers", limits::MAX_LAYERS)]
    TooManyLayers {
        /// The first that is too much.
        span: Span,
    },
    /// A layer that needs the samples of a batch apart, in a network where another layer mixes them.
    #[error("{path}: needs the samples of a batch apart, but {mixer} {why}")]
    NeedsSamples {
        /// The layer.
        path: LayerPath,
        /// The layer.
        span: Span,
        /// The layer that mixes them.
        mixer: LayerPath,
        /// How.
        why: &'static str,
        /// That layer.
        mixer_span: Span,
    },
    /// Something that the predecessor computed in another way each time.
    #[error("{path}: {what}")]
    NotReproducible {
        /// The layer.
        path: LayerPath,
        /// What it is.
        what: &'static str,
        /// The layer.
        span: Span,
    },
    /// Something of which it isn't known what the predecessor makes of it.
    #[error("{path}: {what}")]
    Unclear {
        /// The layer.
        path: LayerPath,
        /// What it is.
        what: &'static str,
        /// The layer.
        span: Span,
    },
    /// Weights that are not there.
    #[error("{path}: its weights are missing: {}", listed(names))]
    MissingWeights {
        /// The layer.
        path: LayerPath,
        /// Their names in a file of weights.
        names: Vec<String>,
        /// The layer.
        span: Span,
    },
    /// A weight of another size.
    #[error("{path}: its weight `{name}` has {found} numbers, the layer needs {needed}")]
    WeightSize {
        /// The layer.
        path: LayerPath,
        /// The weight's name.
        name: String,
        /// How many numbers there should be.
        needed: u64,
        /// How many there are.
        found: u64,
        /// The layer.
        span: Span,
    },
    /// Weights of no layer.
    #[error("the weights hold tensors of no layer: {}", listed(names))]
    ExtraWeights {
        /// Their names.
        names: Vec<String>,
    },
    /// A bundle without the model that is asked for.
    #[error("the bundle has no model `{id}`, it has {}", listed(known))]
    NoSuchModel {
        /// The id.
        id: String,
        /// The bundle's.
        known: Vec<String>,
        /// The models.
        span: Span,
    },
    /// A bundle of several models, and none is chosen.
    #[error("the bundle has several models: {}", listed(known))]
    WhichModel {
        /// Their ids.
        known: Vec<String>,
        /// The models.
        span: Span,
    },
    /// A model is chosen where there is but a config.
    #[error("a model can be chosen of a bundle, but this is a config")]
    NotABundle,
    /// A bundle that is no right one.
    #[error("the bundle is wrong: {reason}")]
    Bundle {
        /// What is wrong.
        reason: String,
        /// Where.
        span: Span,
    },
}

/// "`a`, `b`", and how many more of very many.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl DialectError {
    /// The error as it is shown.
    pub fn diagnostic(&self) -> Diagnostic {
        let message = Diagnostic::new(self.to_string());
        match self {
            DialectError::Config(error) => error.diagnostic(),
            DialectError::NoInputShape { span } => message.at(*span, "does not tell it").help(
                "add \"input_shape\": [...] at the top, the shape of one sample; the predecessor ignores that key",
            ),
            DialectError::TooShort { span, .. } | DialectError::WrongLength { span, .. } => {
                message.at(*span, "this layer")
            }
            DialectError::NotRows { span, .. } => message.at(*span, "this layer"),
            DialectError::Window { span, .. } => message.at(*span, "this layer"),
            DialectError::TooLarge { span, .. } => message.at(*span, "too large"),
            DialectError::TooDeep { span } => message.at(*span, "one level too many"),
            DialectError::TooManyLayers { span } => message.at(*span, "the first too many"),
            DialectError::NeedsSamples { span, mixer, mixer_span, .. } => message
                .at(*span, "one sample at a time")
                .also(*mixer_span, format!("{mixer} mixes the samples"))
                .help("with \"batch_size\": 1 there is nothing to mix"),
            DialectError::NotReproducible { span, .. } => message.at(*span, "can't be reproduced"),
            DialectError::Unclear { span, .. } => message.at(*span, "not translated"),
            DialectError::MissingWeights { span, .. } | DialectError::WeightSize { span, .. } => {
                message.at(*span, "this layer")
            }
            DialectError::ExtraWeights { .. } | DialectError::NotABundle => message,
            DialectError::NoSuchModel { span, .. } => message.at(*span, "none of these"),
            DialectError::WhichModel { span, .. } => message.at(*span, "more than one").help("choose one: --model ID"),
            DialectError::Bundle { span, .. } => message.at(*span, "here"),
        }
    }
}

/// All that is wrong with one old network; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct DialectErrors {
    errors: Vec<DialectError>,
    left_out: usize,
}

impl DialectErrors {
    pub(crate) fn new(mut errors: Vec<DialectError>) -> DialectErrors {
        let position = |error: &DialectError| error.diagnostic().primary.map_or(0, |(span, _)| span.start);
        errors.sort_by_cached_key(position);
        let left_out = errors.len().saturating_sub(limits::MAX_CONFIG_ERRORS);
        errors.truncate(limits::MAX_CONFIG_ERRORS);
        DialectErrors { errors, left_out }
    }

    /// The errors, at most [`limits::MAX_CONFIG_ERRORS`] of them.
    pub fn iter(&self) -> std::slice::Iter<'_, DialectError> {
        self.errors.iter()
    }

    /// How many more there are.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The errors as they are shown.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.errors.iter().map(DialectError::diagnostic).collect()
    }
}

impl From<DialectError> for DialectErrors {
    fn from(error: DialectError) -> DialectErrors {
        DialectErrors::new(vec![error])
    }
}

impl From<ConfigError> for DialectErrors {
    fn from(error: ConfigError) -> DialectErrors {
        DialectError::Config(error).into()
    }
}

impl fmt::Display for DialectErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if index > 0 { "\n" } else { "" })?;
        }
        match self.left_out {
            0 => Ok(()),
            more => write!(f, "\n{more} more errors are not shown"),
        }
    }
}

impl std::error::Error for DialectErrors {}

/// Something about an old network that its translation rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What kind of thing.
    pub kind: NoteKind,
    /// What it is, in a sentence without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// What a [`Note`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKind {
    /// The predecessor computes something else than the file says, and so does the translation.
    Quirk,
    /// The file does not say which of several networks it is, or the translation can't be the same in every case.
    Ambiguity,
}

impl NoteKind {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            NoteKind::Quirk => "quirk",
            NoteKind::Ambiguity => "ambiguity",
        }
    }
}

impl Note {
    /// The note as it is shown.
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(format!("{}: {}", self.kind.name(), self.message)).at(self.span, "")
    }
}

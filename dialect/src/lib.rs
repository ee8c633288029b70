//! Networks of Loom 0.0.8, the predecessor, as networks of this Loom.
//!
//! [`translate`] takes a config of the predecessor's, or one of its bundles, and weights as it saves them, and gives a
//! config and weights of ours that compute what the predecessor really computed: its quirks become ordinary layers.
//! `docs/dialect.md` lists them. Nothing after this crate knows that there is another dialect.
//!
//! Files are untrusted: sizes are checked before anything is allocated, and no content of a file makes this crate panic.
//!
//! ```
//! use loom_dialect::{Options, translate};
//!
//! let old = r#"{"grid_rows": 1, "grid_cols": 1, "layers_per_cell": 1,
//!     "layers": [{"type": "dense", "activation": "linear", "input_height": 4, "output_height": 2}]}"#;
//! let new = translate(old, None, &Options::default())?;
//! // There is no activation of that name, and what it falls back to is 1.1 times a relu.
//! assert!(new.config.contains(r#"{"type": "dense", "input_size": 4, "output_size": 2, "activation": "relu"}"#));
//! assert!(new.config.contains(r#"{"type": "scale", "factor": 1.1}"#));
//! assert_eq!(new.notes.len(), 2);
//! assert!(loom_ir::config::parse(&new.config).is_ok());
//! # Ok::<(), loom_dialect::DialectErrors>(())
//! ```

#![forbid(unsafe_code)]
// The errors carry all that a message needs, and a network makes a handful of them.
#![allow(clippy::result_large_err)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod bundle;
mod definition;
mod emit;
mod error;
mod translate;
mod values;
mod weights;

use std::ops::Range;

use loom_fp_env::FpEnv;
use loom_ir::config::json;
use loom_ir::diagnostics::{Diagnostic, Span};

use definition::{Container, Reader};

pub use error::{DialectError, DialectErrors, Note, NoteKind};
pub use values::from_safetensors;
pub use weights::OldWeights;

/// The dialect's name, as the key `dialect` and the option `--dialect` have it.
pub const NAME: &str = "loom-0.0.8";

/// Bytes of a config or a bundle. A bundle holds its weights as text.
pub const MAX_BUNDLE_BYTES: u64 = 256 << 20;

/// What a file does not say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Which of a bundle's models; not needed if there is but one.
    pub model: Option<&'a str>,
}

/// An old network as a new one.
#[derive(Debug, Clone)]
pub struct Translation {
    /// The new config.
    pub config: String,
    /// The new weights, those that the old weights gave; none of them where there were no old weights.
    pub weights: Option<Vec<Tensor>>,
    /// What it rests on, in the old file's order.
    pub notes: Vec<Note>,
    /// Bytes of `config`, and the old layer they come from.
    origins: Vec<(Range<usize>, Span)>,
    /// The old network.
    span: Span,
}

/// A tensor of the new weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name in the new network.
    pub name: String,
    /// Its extents.
    pub dims: Vec<u64>,
    /// Its elements.
    pub values: Values,
}

/// The elements of a [`Tensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// These, as many as the extents have.
    Given(Vec<f32>),
    /// Zeros: the predecessor reads what isn't there so.
    Zeros,
}

/// Whether a config says itself that it is of this dialect.
pub fn says_so(source: &str) -> bool {
    let named = || {
        let document = json::document(source, MAX_BUNDLE_BYTES).ok()?;
        let object = Reader::new(Container::Config).object(None, document).ok()?;
        let name = object.get("dialect").filter(|value| value.kind() == json::Kind::String)?;
        Some(name.characters().ok()? == NAME)
    };
    named().unwrap_or(false)
}

/// Whether a file is a bundle, which can be of no other dialect.
pub fn is_bundle(source: &str) -> bool {
    let document = json::document(source, MAX_BUNDLE_BYTES);
    document.is_ok_and(|document| bundle::is_bundle(&mut Reader::new(Container::Config), document))
}

/// Translates a config or a bundle; `weights` are those of a file of weights, which win over a bundle's own.
///
/// # Errors
///
/// All that is wrong, or can't be translated.
pub fn translate(
    source: &str,
    weights: Option<&OldWeights>,
    options: &Options<'_>,
) -> Result<Translation, DialectErrors> {
    // Reading a number rounds.
    FpEnv::run(|| {
        let document = json::document(source, MAX_BUNDLE_BYTES)?;
        let mut reader = Reader::new(Container::Config);
        if bundle::is_bundle(&mut reader, document) {
            let model = bundle::read(document, options.model)?;
            let weights = weights.unwrap_or(&model.weights);
            return translate::network(&model.network, Some(weights), Some(model.version));
        }
        if options.model.is_some() {
            return Err(DialectError::NotABundle.into());
        }
        let mut reader = Reader::new(Container::Config);
        match reader.network(document) {
            Ok(network) if reader.errors.is_empty() => translate::network(&network, weights, None),
            _ => Err(DialectErrors::new(reader.errors.into_iter().map(DialectError::from).collect())),
        }
    })
}

impl Translation {
    /// The old layer that bytes of the new config come from.
    pub fn origin(&self, span: Span) -> Span {
        // Inner layers come after those around them.
        let holds = |(range, _): &&(Range<usize>, Span)| range.start <= span.start && span.end <= range.end;
        self.origins.iter().rev().find(holds).map_or(self.span, |&(_, origin)| origin)
    }

    /// A message about the new config as one about the old.
    pub fn located(&self, diagnostic: Diagnostic) -> Diagnostic {
        let moved = |(span, label): (Span, String)| (self.origin(span), label);
        let help = "this is about what the layer becomes: `loomc convert` writes the whole network";
        Diagnostic {
            message: format!("translated, {}", diagnostic.message),
            primary: diagnostic.primary.map(moved),
            secondary: diagnostic.secondary.into_iter().map(moved).collect(),
            help: Some(diagnostic.help.map_or(help.to_owned(), |first| format!("{first}; {help}"))),
        }
    }
}

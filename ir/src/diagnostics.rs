//! Messages about a user's file, with the place they are about.
//!
//! Every layer of the compiler has its own error enum; this module only knows where in the file an error points and
//! how the collected messages of one file look. They are rendered once, at the edge (the command line).

use std::fmt;
use std::ops::Range;

/// A range of bytes in the user's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes `start..end`.
    pub const fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The same as a range.
    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// One message about a place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where: the bytes to underline, and the words beside the underline (may be empty).
    pub primary: Option<(Span, String)>,
    /// Other places that belong to it, such as the layer that made the other shape.
    pub secondary: Vec<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A message without a place.
    pub fn new(message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), primary: None, secondary: Vec::new(), help: None }
    }

    /// Underlines `span`, with `label` beside it.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.primary = Some((span, label.into()));
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.secondary.push((span, label.into()));
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// The known name nearest to a misspelt one, if any is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Half the letters wrong is no longer a slip of the fingers.
    let length = name.chars().count();
    let most = (length / 2).clamp(1, 4);
    known
        .into_iter()
        // The distance is at least this, and computing it for a name of megabytes takes gigabytes.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= most)
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), candidate), candidate))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, candidate)| (distance, candidate))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_only() {
        let known = ["dense", "conv1d", "conv2d", "softmax"];
        assert_eq!(nearest("dens", known), Some("dense"));
        assert_eq!(nearest("Conv2D", known), Some("conv2d"));
        assert_eq!(nearest("sofmtax", known), Some("softmax"));
        assert_eq!(nearest("transformer", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest(&"x".repeat(64 << 20), known), None);
    }
}

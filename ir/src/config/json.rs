//! JSON with places, for front ends of other formats: what [`parse`](super::parse) itself is made of.
//!
//! [`document`] checks a text's size, nesting and syntax. What it gives is looked into level by level, and each value
//! knows the bytes it was read from.

pub use super::fields::{Read, boolean, count, float, positive_or_zero, sample_shape, size, string};
pub use super::spanned::{Counted, Kind, Member, Value};

use super::document;
use super::error::ConfigError;

/// The one value of a JSON text of at most `most` bytes.
///
/// # Errors
///
/// The text is too large, nested too deep or no JSON.
pub fn document(source: &str, most: u64) -> Result<Value<'_>, ConfigError> {
    document::check(source, most)?;
    Value::document(source)
}

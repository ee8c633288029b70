//! JSON values that know their place in the file.
//!
//! serde hands out values without positions, so each level of the file is read as a list of [`RawValue`]s: slices of
//! the source. The address of a slice, less the address of the text it was cut from, is its offset.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::document::not_json;
use super::error::ConfigError;
use crate::diagnostics::Span;

/// A value and the bytes of the file that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands. A string's span includes its quotes.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, read from `span`.
    pub const fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }
}

/// What a JSON value is, by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// A list.
    List,
    /// An object.
    Object,
}

/// One JSON value, not yet looked into.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    text: &'a str,
    span: Span,
}

/// A key of an object, and its value.
#[derive(Debug)]
pub struct Member<'a> {
    /// The key; its span is that of the string with its quotes.
    pub key: Spanned<Cow<'a, str>>,
    /// What stands under it.
    pub value: Value<'a>,
}

/// The first values of a list or an object, and how many it has in all.
#[derive(Debug)]
pub struct Counted<T> {
    /// As many of them as were asked for.
    pub first: Vec<T>,
    /// How many there are.
    pub count: usize,
}

impl<'a> Value<'a> {
    /// The one value of the whole file, whose syntax is thereby checked to the end.
    pub(super) fn document(source: &'a str) -> Result<Value<'a>, ConfigError> {
        let raw = serde_json::from_str(source).map_err(|error| not_json(&error, source, 0))?;
        Ok(Value { text: source, span: Span::new(0, source.len()) }.part(raw))
    }

    fn part(self, raw: &'a RawValue) -> Value<'a> {
        let text = raw.get();
        let offset = text.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let start = self.span.start.saturating_add(offset);
        Value { text, span: Span::new(start, start.saturating_add(text.len())) }
    }

    /// The value's JSON text.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// Where the value stands in the file.
    pub fn span(self) -> Span {
        self.span
    }

    /// What the value is.
    pub fn kind(self) -> Kind {
        match self.text.as_bytes().first() {
            Some(b'n') | None => Kind::Null,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'"') => Kind::String,
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Object,
            Some(_) => Kind::Number,
        }
    }

    /// What the value is, in the words of a message.
    pub fn description(self) -> &'static str {
        match self.kind() {
            Kind::Null => "null",
            Kind::Boolean => "a boolean",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::List => "a list",
            Kind::Object => "an object",
        }
    }

    /// The characters of a string. A lone surrogate (`"\ud800"`) passes the syntax check and fails only here.
    pub fn characters(self) -> Result<Cow<'a, str>, ConfigError> {
        match self.text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
            _ => serde_json::from_str(self.text).map(Cow::Owned).map_err(|error| self.broken(&error)),
        }
    }

    /// The first `limit` members of an object, in the file's order.
    pub fn members(self, limit: usize) -> Result<Counted<Member<'a>>, ConfigError> {
        let members = serde_json::Deserializer::from_str(self.text)
            .deserialize_map(MembersVisitor { limit })
            .map_err(|error| self.broken(&error))?;
        let first = members.first.into_iter().map(|(key, value)| {
            let key = self.part(key);
            Ok(Member { key: Spanned::new(key.characters()?, key.span), value: self.part(value) })
        });
        Ok(Counted { first: first.collect::<Result<_, _>>()?, count: members.count })
    }

    /// The first `limit` elements of a list.
    pub fn elements(self, limit: usize) -> Result<Counted<Value<'a>>, ConfigError> {
        let elements = serde_json::Deserializer::from_str(self.text)
            .deserialize_seq(ElementsVisitor { limit })
            .map_err(|error| self.broken(&error))?;
        let first = elements.first.into_iter().map(|element| self.part(element)).collect();
        Ok(Counted { first, count: elements.count })
    }

    fn broken(self, error: &serde_json::Error) -> ConfigError {
        not_json(error, self.text, self.span.start)
    }
}

struct MembersVisitor {
    limit: usize,
}

impl<'a> Visitor<'a> for MembersVisitor {
    type Value = Counted<(&'a RawValue, &'a RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < self.limit {
            match map.next_entry()? {
                Some(entry) => first.push(entry),
                None => break,
            }
        }
        let mut count = first.len();
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count = count.saturating_add(1);
        }
        Ok(Counted { first, count })
    }
}

struct ElementsVisitor {
    limit: usize,
}

impl<'a> Visitor<'a> for ElementsVisitor {
    type Value = Counted<&'a RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < self.limit {
            match list.next_element()? {
                Some(element) => first.push(element),
                None => break,
            }
        }
        let mut count = first.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count = count.saturating_add(1);
        }
        Ok(Counted { first, count })
    }
}

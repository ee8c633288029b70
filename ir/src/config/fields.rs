//! Reading one object: its keys, each once and known, and its values, each of the right type.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::context::{Context, Reported};
use super::error::{At, ConfigError, Owner};
use super::network::{LayerPath, Pair};
use super::schema::{self, Key, Named};
use super::spanned::{Kind, Member, Spanned, Value};
use crate::diagnostics::Span;
use crate::limits;
use crate::numerics::rotary;

/// The object of a network or a layer.
#[derive(Debug)]
pub(super) struct Object<'a> {
    /// None for the network itself.
    pub path: Option<LayerPath>,
    /// What stands before a key in messages, for an object inside the layer's: `grid_positions.1.`.
    prefix: String,
    members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// Reads the keys of `value` and reports the repeated ones.
    pub fn read(context: &mut Context, path: Option<LayerPath>, value: Value<'a>) -> Result<Object<'a>, Reported> {
        Object::read_part(context, path, "", value)
    }

    /// The same for an object that stands at `place` inside a layer: `grid_positions.1`.
    pub fn read_part(
        context: &mut Context,
        path: Option<LayerPath>,
        place: &str,
        value: Value<'a>,
    ) -> Result<Object<'a>, Reported> {
        let prefix = if place.is_empty() { String::new() } else { format!("{place}.") };
        let object = Object { path, prefix, members: Vec::new() };
        let at = At { key: (!place.is_empty()).then(|| place.to_owned()), ..object.at(None) };
        let members = match value.kind() {
            Kind::Object => value.members(limits::MAX_CONFIG_KEYS),
            _ => Err(wrong_type(at.clone(), value, "an object", value.description())),
        };
        let members = members.map_err(|error| context.report(error))?;
        if members.count > members.first.len() {
            return Err(context.report(ConfigError::TooManyKeys { at, count: members.count, span: value.span() }));
        }
        let mut seen = BTreeMap::new();
        for member in &members.first {
            let first = *seen.entry(member.key.value.as_ref()).or_insert(member.key.span);
            if first != member.key.span {
                let at = object.at(Some(member.key.value.to_string()));
                context.report(ConfigError::DuplicateKey { at, first, again: member.key.span });
            }
        }
        Ok(Object { members: members.first, ..object })
    }

    /// The value of `key`, the first one if there are several.
    pub fn get(&self, key: Key) -> Option<Value<'a>> {
        self.members.iter().find(|member| member.key.value == key.name).map(|member| member.value)
    }

    /// The string that `key` has, if it has one.
    pub fn name(&self, key: Key) -> Option<Cow<'a, str>> {
        self.get(key).filter(|value| value.kind() == Kind::String)?.characters().ok()
    }

    pub fn at(&self, key: Option<String>) -> At {
        let key = key.map(|key| format!("{}{key}", self.prefix));
        At { layer: self.path.clone(), key, index: None }
    }

    /// Reads the value of `key`; `None` if the key isn't there.
    pub fn optional<T>(&self, context: &mut Context, key: Key, read: Read<T>) -> Result<Option<Spanned<T>>, Reported> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value, &|| self.at(Some(key.name.to_owned()))) {
            Ok(read) => Ok(Some(Spanned::new(read, value.span()))),
            Err(error) => Err(context.report(error)),
        }
    }
}

/// An object whose type is known.
#[derive(Debug)]
pub(super) struct Fields<'r, 'a> {
    pub context: &'r mut Context,
    pub object: &'r Object<'a>,
    pub owner: Owner,
    /// Where messages about a missing key point to, and defaults come from.
    pub anchor: Span,
}

impl<'a> Fields<'_, 'a> {
    pub fn get(&self, key: Key) -> Option<Value<'a>> {
        self.object.get(key)
    }

    pub fn report(&mut self, error: ConfigError) -> Reported {
        self.context.report(error)
    }

    /// Reports the keys that are neither in `known` nor the choice's.
    pub fn refuse_others(&mut self, known: &[Key], choice: &Choice) {
        let known = || known.iter().chain(choice.keys).map(|key| key.name);
        for Member { key, .. } in &self.object.members {
            if known().any(|known| known == key.value) || choice.open && has(&choice.family, &key.value) {
                continue;
            }
            let mut owner = self.owner.clone();
            if let Owner::Layer { choice: shown, .. } = &mut owner
                && has(&choice.family, &key.value)
            {
                *shown = choice.name;
            }
            let key = Spanned::new(key.value.to_string(), key.span);
            self.context.report(ConfigError::UnknownKey { owner, key, known: known().collect() });
        }
    }

    pub fn optional<T>(&mut self, key: Key, read: Read<T>) -> Result<Option<Spanned<T>>, Reported> {
        self.object.optional(self.context, key, read)
    }

    pub fn optional_or<T>(&mut self, key: Key, default: T, read: Read<T>) -> Result<Spanned<T>, Reported> {
        let anchor = self.anchor;
        Ok(self.optional(key, read)?.unwrap_or(Spanned::new(default, anchor)))
    }

    pub fn required<T>(&mut self, key: Key, read: Read<T>) -> Result<Spanned<T>, Reported> {
        self.optional(key, read)?.ok_or_else(|| self.missing(key, &[]))
    }

    /// Reads every one of `keys`, which mean the same, and takes the first that is there.
    pub fn first_of<T>(&mut self, keys: &[Key], read: Read<T>) -> Result<Option<Spanned<T>>, Reported> {
        let values = keys.iter().map(|&key| self.optional(key, read)).collect::<Vec<_>>();
        Ok(values.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().next())
    }

    pub fn missing(&mut self, key: Key, instead: &[Key]) -> Reported {
        let instead = instead.iter().map(|key| key.name).collect();
        self.report(ConfigError::MissingKey { owner: self.owner.clone(), key: key.name, instead, span: self.anchor })
    }
}

/// What some keys of a layer depend on, beside its type: its activation, its softmax variant, its way to combine.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// What is chosen, if that is known.
    pub name: Option<&'static str>,
    /// The keys that come with it.
    pub keys: &'static [Key],
    /// The keys that come with any choice.
    pub family: Vec<Key>,
    /// Whether all of the family is let through: what is chosen is unknown or not built, and reported as that alone.
    pub open: bool,
}

/// The choice that `key` makes among `rows`; the first of them where the key isn't there.
pub(super) fn choice<T>(object: &Object<'_>, key: Key, rows: &'static [Named<T>]) -> Choice {
    let chosen = match object.get(key) {
        Some(_) => object.name(key).and_then(|name| schema::named(rows, &name)),
        None => rows.first(),
    };
    Choice {
        name: chosen.map(|row| row.name),
        keys: chosen.map_or(&[], |row| row.keys),
        family: rows.iter().flat_map(|row| row.keys).copied().collect(),
        open: chosen.is_none(),
    }
}

/// Reads what `key` chooses among `rows`, the first of them where the key isn't there; `what` they are is for messages.
pub(super) fn read_choice<T>(
    fields: &mut Fields<'_, '_>,
    key: Key,
    what: &'static str,
    rows: &'static [Named<T>],
) -> Result<T, Reported> {
    let name = fields.optional(key, string)?;
    let row = match &name {
        Some(name) => schema::named(rows, &name.value),
        None => rows.first(),
    };
    match (row, name) {
        (Some(row), _) => (row.read)(fields),
        (None, name) => {
            let name = name.unwrap_or(Spanned::new(String::new(), fields.anchor));
            let spellings = rows.iter().flat_map(Named::spellings).collect();
            let known = rows.iter().map(|row| row.name).collect();
            Err(fields.report(ConfigError::UnknownName { what, name, spellings, known }))
        }
    }
}

fn has(keys: &[Key], name: &str) -> bool {
    keys.iter().any(|key| key.name == name)
}

/// Reads a value; the function says where it stands, if a message needs it.
pub type Read<T> = fn(Value<'_>, &dyn Fn() -> At) -> Result<T, ConfigError>;

pub(super) fn wrong_type(at: At, value: Value<'_>, expected: &'static str, found: &'static str) -> ConfigError {
    ConfigError::WrongType { at, expected, found, span: value.span() }
}

fn out_of_range(at: At, value: Value<'_>, rule: &'static str) -> ConfigError {
    ConfigError::NumberOutOfRange { at, rule, found: value.text().to_owned(), span: value.span() }
}

/// `true` or `false`.
pub fn boolean(value: Value<'_>, at: &dyn Fn() -> At) -> Result<bool, ConfigError> {
    match value.kind() {
        Kind::Boolean => Ok(value.text() == "true"),
        _ => Err(wrong_type(at(), value, "true or false", value.description())),
    }
}

/// A string.
pub fn string(value: Value<'_>, at: &dyn Fn() -> At) -> Result<String, ConfigError> {
    match value.kind() {
        Kind::String => Ok(value.characters()?.into_owned()),
        _ => Err(wrong_type(at(), value, "a string", value.description())),
    }
}

/// A string with at least one character.
pub(super) fn name(value: Value<'_>, at: &dyn Fn() -> At) -> Result<String, ConfigError> {
    match string(value, at)? {
        name if name.is_empty() => Err(ConfigError::EmptyName { at: at(), span: value.span() }),
        name => Ok(name),
    }
}

/// An integer of any size that `N` has, at least `least`. `2.0` isn't one: sizes are counted, not measured.
fn integer<N>(value: Value<'_>, at: &dyn Fn() -> At, rules: Rules<N>) -> Result<N, ConfigError>
where
    N: TryFrom<i128> + PartialOrd,
{
    let text = value.text();
    if value.kind() != Kind::Number {
        return Err(wrong_type(at(), value, "an integer", value.description()));
    }
    if text.contains('.') {
        return Err(wrong_type(at(), value, "an integer", "a number with a fraction"));
    }
    if text.contains(['e', 'E']) {
        return Err(wrong_type(at(), value, "an integer", "a number with an exponent"));
    }
    // What doesn't fit 128 bits is too large or too small for every N.
    let too_far = if text.starts_with('-') { i128::MIN } else { i128::MAX };
    let number = text.parse::<i128>().unwrap_or(too_far);
    match N::try_from(number) {
        Ok(number) if number >= rules.least => Ok(number),
        Err(_) if number > 0 => Err(out_of_range(at(), value, rules.too_large)),
        _ => Err(out_of_range(at(), value, rules.too_small)),
    }
}

/// The least integer, and the words for those beyond the ends.
struct Rules<N> {
    least: N,
    too_small: &'static str,
    too_large: &'static str,
}

const BELOW_2_64: &str = "less than 2^64";

/// An integer that may be 0.
pub fn count(value: Value<'_>, at: &dyn Fn() -> At) -> Result<u64, ConfigError> {
    integer(value, at, Rules { least: 0, too_small: "at least 0", too_large: BELOW_2_64 })
}

/// An integer that may not be 0.
pub fn size(value: Value<'_>, at: &dyn Fn() -> At) -> Result<u64, ConfigError> {
    integer(value, at, Rules { least: 1, too_small: "at least 1", too_large: BELOW_2_64 })
}

/// An integer that may be negative.
pub fn signed(value: Value<'_>, at: &dyn Fn() -> At) -> Result<i64, ConfigError> {
    integer(value, at, Rules { least: i64::MIN, too_small: "at least -2^63", too_large: "less than 2^63" })
}

/// An integer of 8 bits.
pub(super) fn code(value: Value<'_>, at: &dyn Fn() -> At) -> Result<i8, ConfigError> {
    integer(value, at, Rules { least: i8::MIN, too_small: "at least -128", too_large: "at most 127" })
}

/// A number that a 64-bit float has.
pub fn float(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    if value.kind() != Kind::Number {
        return Err(wrong_type(at(), value, "a number", value.description()));
    }
    // The standard library rounds correctly; serde_json, as it is built here, may be one unit in the last place off.
    let number = value.text().parse::<f64>().unwrap_or(f64::NAN);
    let mantissa = value.text().split(['e', 'E']).next().unwrap_or_default();
    // What is too small for a 64-bit float mustn't become a 0, which can stand for something else.
    let vanished = number == 0.0 && mantissa.contains(|digit| matches!(digit, '1'..='9'));
    if number.is_finite() && !vanished {
        Ok(number)
    } else {
        Err(out_of_range(at(), value, "within the range of a 64-bit float"))
    }
}

/// A number that isn't negative, where 0 stands for a default. As a network computes with it as a 32-bit float, it must
/// be more than 0 and finite as one.
pub fn positive_or_zero(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    match float(value, at)? {
        number if number < 0.0 => Err(out_of_range(at(), value, "more than 0")),
        number if number == 0.0 || is_positive_f32(number) => Ok(number),
        _ => Err(out_of_range(at(), value, "within the range of a 32-bit float")),
    }
}

/// The same for a width, of which a network takes twice the square.
pub(super) fn width_or_zero(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    match positive_or_zero(value, at)? {
        number if number == 0.0 || is_positive_f32(2.0 * number * number) => Ok(number),
        _ => Err(out_of_range(at(), value, "so that twice its square is within the range of a 32-bit float")),
    }
}

/// Whether a number, rounded to 32 bits, is more than 0 and finite.
fn is_positive_f32(number: f64) -> bool {
    let rounded = number as f32;
    rounded > 0.0 && rounded.is_finite()
}

/// A number that is more than 0, also as a 32-bit float.
pub(super) fn positive(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    match positive_or_zero(value, at)? {
        number if number > 0.0 => Ok(number),
        _ => Err(out_of_range(at(), value, "more than 0")),
    }
}

/// A number that is at least 0 and less than 1.
pub(super) fn share(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    match float(value, at)? {
        number if (0.0..1.0).contains(&number) => Ok(number),
        _ => Err(out_of_range(at(), value, "at least 0 and less than 1")),
    }
}

/// A number that is more than 1 and at most 2.
pub(super) fn entmax_alpha(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    match float(value, at)? {
        number if number > 1.0 && number <= 2.0 => Ok(number),
        _ => Err(out_of_range(at(), value, "more than 1 and at most 2")),
    }
}

/// A base of rotary position embeddings, or 0 for the default.
pub(super) fn rope_base(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    const { assert!(rotary::GREATEST_BASE == 1e12) };
    match float(value, at)? {
        base if base == 0.0 || (1.0..=rotary::GREATEST_BASE).contains(&base) => Ok(base),
        _ => Err(out_of_range(at(), value, "at least 1 and at most 10^12")),
    }
}

/// The rows of a table that is looked up by floats: each number of one has to be a 32-bit float.
pub(super) fn vocabulary(value: Value<'_>, at: &dyn Fn() -> At) -> Result<u64, ConfigError> {
    match size(value, at)? {
        rows if rows <= 1 << 24 => Ok(rows),
        _ => Err(out_of_range(at(), value, "at most 2^24")),
    }
}

/// A list of at least one element, each read by `read`.
pub(super) fn list<T>(value: Value<'_>, at: &dyn Fn() -> At, read: Read<T>) -> Result<Vec<T>, ConfigError> {
    if value.kind() != Kind::List {
        return Err(wrong_type(at(), value, "a list", value.description()));
    }
    let elements = value.elements(usize::MAX)?;
    if elements.count == 0 {
        return Err(wrong_length(at(), value, "at least 1 element", 0));
    }
    let read = |(index, element)| read(element, &|| At { index: Some(index), ..at() });
    elements.first.into_iter().enumerate().map(read).collect()
}

/// A number that isn't negative.
pub(super) fn at_least_zero(value: Value<'_>, at: &dyn Fn() -> At) -> Result<f64, ConfigError> {
    match float(value, at)? {
        number if number >= 0.0 => Ok(number),
        _ => Err(out_of_range(at(), value, "at least 0")),
    }
}

/// A list of at least one size, and of no more than leave room for the batch axis.
pub fn sample_shape(value: Value<'_>, at: &dyn Fn() -> At) -> Result<Vec<u64>, ConfigError> {
    const { assert!(limits::MAX_RANK == 8) };
    if value.kind() != Kind::List {
        return Err(wrong_type(at(), value, "a list of integers", value.description()));
    }
    sizes(value, at, 1..limits::MAX_RANK, "1 to 7 integers", size)
}

/// Two sizes, or one that stands for both.
pub(super) fn size_pair(value: Value<'_>, at: &dyn Fn() -> At) -> Result<Pair, ConfigError> {
    pair(value, at, size)
}

/// Two integers that may be 0, or one that stands for both.
pub(super) fn count_pair(value: Value<'_>, at: &dyn Fn() -> At) -> Result<Pair, ConfigError> {
    pair(value, at, count)
}

fn pair(value: Value<'_>, at: &dyn Fn() -> At, read: Read<u64>) -> Result<Pair, ConfigError> {
    match value.kind() {
        Kind::Number => read(value, at).map(Pair::square),
        Kind::List => match sizes(value, at, 2..3, "2 integers", read)?.as_slice() {
            &[height, width] => Ok(Pair { height, width }),
            other => Err(wrong_length(at(), value, "2 integers", other.len())),
        },
        _ => Err(wrong_type(at(), value, "an integer or a list of two", value.description())),
    }
}

fn sizes(
    value: Value<'_>,
    at: &dyn Fn() -> At,
    lengths: std::ops::Range<usize>,
    expected: &'static str,
    read: Read<u64>,
) -> Result<Vec<u64>, ConfigError> {
    let elements = value.elements(lengths.end)?;
    if !lengths.contains(&elements.count) {
        return Err(wrong_length(at(), value, expected, elements.count));
    }
    let read = |(index, element)| read(element, &|| At { index: Some(index), ..at() });
    elements.first.into_iter().enumerate().map(read).collect()
}

fn wrong_length(at: At, value: Value<'_>, expected: &'static str, found: usize) -> ConfigError {
    ConfigError::WrongLength { at, expected, found, span: value.span() }
}

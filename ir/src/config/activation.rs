//! Activations: the key `activation`, and the keys beside it that come with the activation it names.

use super::context::Reported;
use super::error::ConfigError;
use super::fields::{self, Choice, Fields, Object};
use super::network::{Activation, GeluApproximation, LayerPath};
use super::schema::{self, ActivationType};
use super::spanned::Spanned;

/// Which activation's keys the object may have. `default` is what it means to name none.
pub(super) fn choice(object: &Object<'_>, default: Option<&'static ActivationType>) -> Choice {
    let chosen = match object.get(schema::ACTIVATION) {
        Some(_) => object.name(schema::ACTIVATION).and_then(|name| schema::activation_type(&name)),
        None => default,
    };
    Choice {
        name: chosen.map(|row| row.name),
        keys: chosen.map_or(&[], |row| row.keys),
        family: schema::ACTIVATIONS.iter().flat_map(|row| row.keys).copied().collect(),
        open: chosen.is_none(),
    }
}

/// What it means for the layer to name no activation: relu, but tanh for an rnn, and linear for a gate, whose values are
/// logits.
pub(super) fn default_of(object: &Object<'_>) -> &'static ActivationType {
    const TANH: &ActivationType = &schema::TANH;
    const RELU: &ActivationType = &schema::RELU;
    const LINEAR: &ActivationType = &schema::LINEAR;
    if object.name(schema::TYPE).is_some_and(|name| name == "rnn") {
        return TANH;
    }
    if object.path.as_ref().is_some_and(LayerPath::is_gate) { LINEAR } else { RELU }
}

/// Reads the activation of a layer that need not name one.
pub(super) fn read_or_default(fields: &mut Fields<'_, '_>) -> Result<Activation, Reported> {
    match fields.optional(schema::ACTIVATION, fields::string)? {
        Some(name) => read_named(fields, name),
        None => (default_of(fields.object).read)(fields),
    }
}

/// Reads the activation of a layer that has to name one.
pub(super) fn read_required(fields: &mut Fields<'_, '_>) -> Result<Activation, Reported> {
    let name = fields.required(schema::ACTIVATION, fields::string)?;
    read_named(fields, name)
}

fn read_named(fields: &mut Fields<'_, '_>, name: Spanned<String>) -> Result<Activation, Reported> {
    match schema::activation_type(&name.value) {
        Some(row) => (row.read)(fields),
        None => Err(fields.report(ConfigError::UnknownName {
            what: "activation",
            name,
            spellings: schema::all_activation_names().collect(),
            known: schema::ACTIVATIONS.iter().map(|row| row.name).collect(),
        })),
    }
}

pub(super) fn gelu(fields: &mut Fields<'_, '_>) -> Result<Activation, Reported> {
    let approximate = match fields.optional(schema::APPROXIMATE, fields::string)? {
        None => GeluApproximation::None,
        Some(name) => match name.value.as_str() {
            "none" => GeluApproximation::None,
            "tanh" => GeluApproximation::Tanh,
            _ => {
                let known = vec!["none", "tanh"];
                let spellings = known.clone();
                let what = "approximation";
                return Err(fields.report(ConfigError::UnknownName { what, name, spellings, known }));
            }
        },
    };
    Ok(Activation::Gelu { approximate })
}

pub(super) fn leaky_relu(fields: &mut Fields<'_, '_>) -> Result<Activation, Reported> {
    let negative_slope = fields.optional_or(schema::NEGATIVE_SLOPE, 0.01, fields::float)?.value;
    Ok(Activation::LeakyRelu { negative_slope })
}

pub(super) fn elu(fields: &mut Fields<'_, '_>) -> Result<Activation, Reported> {
    let alpha = fields.optional_or(schema::ALPHA, 1.0, fields::float)?.value;
    Ok(Activation::Elu { alpha })
}

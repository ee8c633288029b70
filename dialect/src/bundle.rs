//! Saved models: `modelhost/bundle`, of version 1 (numbers as JSON) and 2 (numbers packed), both in base64.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use loom_ir::config::json::{self, Kind, Value};
use loom_ir::config::{ConfigError, Spanned};
use loom_ir::diagnostics::Span;
use loom_ir::limits;
use serde::Deserializer as _;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::definition::{Container, Layer, LayerType, Network, Object, Reader, Reported};
use crate::error::{DialectError, DialectErrors};
use crate::values;
use crate::weights::OldWeights;

/// How the numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// As JSON.
    One,
    /// Packed.
    Two,
}

/// A model of a bundle.
#[derive(Debug)]
pub(crate) struct Model {
    pub version: Version,
    pub network: Network,
    pub weights: OldWeights,
}

const TYPE: &str = "modelhost/bundle";

/// Whether a file is a bundle: its own `type` says so.
pub(crate) fn is_bundle(reader: &mut Reader, document: Value<'_>) -> bool {
    let Ok(object) = reader.object(None, document) else { return false };
    object.get("type").is_some_and(|value| value.kind() == Kind::String && value.text() == format!("\"{TYPE}\""))
}

/// Reads a model of a bundle: the one of that id, or the only one.
pub(crate) fn read(document: Value<'_>, id: Option<&str>) -> Result<Model, DialectErrors> {
    let mut reader = Reader::new(Container::Bundle);
    let read = model(&mut reader, document, id);
    match read {
        Ok(Ok(model)) if reader.errors.is_empty() => Ok(model),
        Ok(Err(errors)) if reader.errors.is_empty() => Err(errors),
        _ => Err(DialectErrors::new(reader.errors.into_iter().map(DialectError::from).collect())),
    }
}

/// What the reader can't say itself is the inner error.
fn model(reader: &mut Reader, document: Value<'_>, id: Option<&str>) -> Result<Result<Model, DialectErrors>, Reported> {
    let bundle = reader.object(None, document)?;
    let span = bundle.get("models").map_or(document.span(), Value::span);
    let mut known = Vec::new();
    let mut chosen = None;
    for value in reader.list(&bundle, "models", limits::MAX_LAYERS)? {
        let object = reader.object(None, value)?;
        let name = reader.read(&object, "id", json::string)?.map(|id| id.value).unwrap_or_default();
        if id.is_none_or(|id| id == name) && chosen.is_none() {
            chosen = Some((object, value.span()));
        }
        known.push(name);
    }
    let (object, place) = match (chosen, id) {
        (Some(_), None) if known.len() > 1 => return Ok(Err(DialectError::WhichModel { known, span }.into())),
        (Some(chosen), _) => chosen,
        (None, Some(id)) => return Ok(Err(DialectError::NoSuchModel { id: id.to_owned(), known, span }.into())),
        (None, None) => return Ok(Err(wrong("it holds no model", span))),
    };
    let Some(cfg) = object.get("cfg") else { return Ok(Err(wrong("the model has no `cfg`", place))) };
    let Some(stored) = object.get("weights") else { return Ok(Err(wrong("the model has no `weights`", place))) };
    let network = reader.network(cfg)?;
    let stored_object = reader.object(None, stored)?;
    let format = reader.read(&stored_object, "fmt", json::string)?;
    let version = match format.as_ref().map(|format| format.value.as_str()) {
        Some("jsonModelB64") => Version::One,
        Some("multiPrecisionB64") => Version::Two,
        _ => {
            let span = format.map_or(stored.span(), |format| format.span);
            return Ok(Err(wrong("`fmt` is neither `jsonModelB64` nor `multiPrecisionB64`", span)));
        }
    };
    let Some(data) = reader.read(&stored_object, "data", json::string)? else {
        return Ok(Err(wrong("the weights have no `data`", stored.span())));
    };
    let weights = weights(&data, &network.layers, version);
    Ok(weights.map(|weights| Model { version, network, weights }).map_err(DialectErrors::from))
}

fn wrong(reason: &str, span: Span) -> DialectErrors {
    DialectError::Bundle { reason: reason.to_owned(), span }.into()
}

/// The weights in a bundle's data; a message about them points to all of it.
fn weights(data: &Spanned<String>, layers: &[Layer], version: Version) -> Result<OldWeights, DialectError> {
    let wrong = |reason: String| DialectError::Bundle { reason, span: data.span };
    let bytes = BASE64.decode(&data.value).map_err(|error| wrong(format!("the data is no base64: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("the decoded data is no UTF-8 text".to_owned()))?;
    let mut inner = Inner { version, dtype: String::new(), scale: 1.0, weights: OldWeights::new() };
    inner.read(&text, layers).map_err(|reason| wrong(format!("in the decoded data, {reason}")))?;
    Ok(inner.weights)
}

struct Inner {
    version: Version,
    dtype: String,
    scale: f32,
    weights: OldWeights,
}

impl Inner {
    fn read(&mut self, text: &str, layers: &[Layer]) -> Result<(), String> {
        let said = |error: ConfigError| error.to_string();
        let document = json::document(text, crate::MAX_BUNDLE_BYTES).map_err(said)?;
        let mut reader = Reader::new(Container::Bundle);
        let read = self.document(&mut reader, document, layers);
        match reader.errors.first() {
            Some(error) => Err(error.to_string()),
            None => read.unwrap_or(Ok(())),
        }
    }

    fn document(
        &mut self,
        reader: &mut Reader,
        document: Value<'_>,
        layers: &[Layer],
    ) -> Result<Result<(), String>, Reported> {
        let object = reader.object(None, document)?;
        if self.version == Version::Two {
            self.dtype = reader.read(&object, "dtype", json::string)?.map(|name| name.value).unwrap_or_default();
            self.scale = reader.read(&object, "scale", json::float)?.map_or(1.0, |scale| scale.value as f32);
            self.weights.in_pairs = matches!(self.dtype.as_str(), "float4" | "int4");
        }
        self.layers(reader, &object, "layers", &layers.iter().collect::<Vec<_>>())
    }

    fn layers(
        &mut self,
        reader: &mut Reader,
        object: &Object<'_>,
        key: &str,
        layers: &[&Layer],
    ) -> Result<Result<(), String>, Reported> {
        let values = reader.list(object, key, limits::MAX_LAYERS)?;
        if values.len() != layers.len() {
            let (found, needed) = (values.len(), layers.len());
            return Ok(Err(format!("`{key}` has the weights of {found} layers, the config has {needed}")));
        }
        for (&layer, value) in layers.iter().zip(values) {
            let stored = reader.object(Some(layer.path.clone()), value)?;
            for &(key, role) in ROLES {
                let Some(value) = stored.get(key) else { continue };
                match self.numbers(value) {
                    Some(numbers) if numbers.is_empty() => {}
                    Some(numbers) => self.weights.insert(format!("{}.{role}", layer.prefix), numbers),
                    None => return Ok(Err(format!("`{key}` of {} can't be read as numbers", layer.path))),
                }
            }
            let inner: Vec<&Layer> = match layer.is(LayerType::Kmeans) {
                true => layer.attached.as_deref().into_iter().collect(),
                false => layer.branches.iter().collect(),
            };
            // Empty lists are left out.
            if stored.get("branch_weights").is_some() {
                let read = self.layers(reader, &stored, "branch_weights", &inner)?;
                if read.is_err() {
                    return Ok(read);
                }
            }
        }
        Ok(Ok(()))
    }

    fn numbers(&self, value: Value<'_>) -> Option<Vec<f32>> {
        match self.version {
            Version::One => serde_json::Deserializer::from_str(value.text()).deserialize_seq(Numbers).ok(),
            Version::Two => {
                let text: Cow<'_, str> = value.characters().ok()?;
                values::from_bundle(&self.dtype, self.scale, &BASE64.decode(text.as_bytes()).ok()?)
            }
        }
    }
}

/// A bundle's names of weights, and those in a file of weights.
const ROLES: &[(&str, &str)] = &[
    ("kernel", "weight"),
    ("biases", "bias"),
    ("conv_bias", "bias"),
    ("embedding_weights", "weight"),
    ("q_weights", "q_weight"),
    ("k_weights", "k_weight"),
    ("v_weights", "v_weight"),
    ("output_weight", "o_weight"),
    ("q_bias", "q_bias"),
    ("k_bias", "k_bias"),
    ("v_bias", "v_bias"),
    ("output_bias", "o_bias"),
    ("weight_ih", "weight_ih"),
    ("weight_hh", "weight_hh"),
    ("bias_h", "bias_h"),
    ("weight_ii", "weight_ih_i"),
    ("weight_if", "weight_ih_f"),
    ("weight_ig", "weight_ih_g"),
    ("weight_io", "weight_ih_o"),
    ("weight_hi", "weight_hh_i"),
    ("weight_hf", "weight_hh_f"),
    ("weight_hg", "weight_hh_g"),
    ("weight_ho", "weight_hh_o"),
    ("bias_i", "bias_i"),
    ("bias_f", "bias_f"),
    ("bias_g", "bias_g"),
    ("bias_o", "bias_o"),
    ("gamma", "gamma"),
    ("beta", "beta"),
    ("gate_weights", "gate_weight"),
    ("up_weights", "up_weight"),
    ("down_weights", "down_weight"),
    ("gate_bias", "gate_bias"),
    ("up_bias", "up_bias"),
    ("down_bias", "down_bias"),
    ("cluster_centers", "cluster_centers"),
];

/// A list of finite `f32`s, each rounded once. (serde_json may be a unit in the last place off, and rounds twice.)
struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<f32>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(element) = list.next_element::<&RawValue>()? {
            // Beside JSON's numbers, Rust reads words such as `inf`, which are no JSON.
            let number = element.get().parse::<f32>().ok().filter(|number| number.is_finite());
            numbers.push(number.ok_or_else(|| serde::de::Error::custom("not a number"))?);
        }
        Ok(numbers)
    }
}

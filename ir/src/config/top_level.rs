//! The network's own keys.

use super::context::{Context, Reported};
use super::error::{self, ConfigError, Owner};
use super::fields::{self, Choice, Fields, Object};
use super::layers;
use super::network::{Layer, Network};
use super::precision;
use super::schema;
use super::spanned::{Kind, Value};

pub(super) fn read(context: &mut Context, document: Value<'_>) -> Result<Network, Reported> {
    let object = Object::read(context, None, document)?;
    let span = document.span();
    let mut fields = Fields { context, object: &object, owner: Owner::Network, anchor: span };
    // In another dialect other keys are known and other values right: nothing more can be said about the file.
    check_dialect(&mut fields)?;

    fields.refuse_others(schema::NETWORK_KEYS, &Choice::default());
    let id = fields.optional(schema::ID, fields::string);
    let precision = precision::read(&mut fields);
    let input_codes = precision::read_coding(&mut fields, (schema::NETWORK_SCALE, schema::NETWORK_ZERO_POINT));
    let batch_size = fields.optional_or(schema::BATCH_SIZE, 1, fields::size);
    let input_shape = fields.optional(schema::INPUT_SHAPE, fields::sample_shape);
    let seed = fields.optional_or(schema::SEED, 0, fields::count);
    let layers = read_layers(&mut fields);
    let grid = check_grid(&mut fields);
    grid?;
    Ok(Network {
        id: id?.map(|id| id.value),
        precision: precision?.unwrap_or_default(),
        input_codes: input_codes?,
        batch_size: batch_size?.value,
        input_shape: input_shape?,
        seed: seed?.value,
        layers: layers?,
        span,
    })
}

fn check_dialect(fields: &mut Fields<'_, '_>) -> Result<(), Reported> {
    let (what, known) = ("dialect", vec!["loom", "loom-0.0.8"]);
    let Some(name) = fields.optional(schema::DIALECT, fields::string)? else { return Ok(()) };
    match name.value.as_str() {
        "loom" => Ok(()),
        "loom-0.0.8" => Err(fields.report(ConfigError::OtherDialect { name })),
        _ => {
            let spellings = known.clone();
            Err(fields.report(ConfigError::UnknownName { what, name, spellings, known }))
        }
    }
}

fn read_layers(fields: &mut Fields<'_, '_>) -> Result<Vec<Layer>, Reported> {
    let Some(list) = fields.get(schema::LAYERS) else { return Err(fields.missing(schema::LAYERS, &[])) };
    let layers = layers::read_list(fields.context, None, schema::LAYERS, list)?;
    if layers.is_empty() {
        return Err(fields.report(ConfigError::NoLayers { span: list.span() }));
    }
    Ok(layers)
}

/// Checks that the layers fill the grid, as far as its sizes are given. It has no other meaning.
fn check_grid(fields: &mut Fields<'_, '_>) -> Result<(), Reported> {
    let axes: [_; error::GRID_AXES] = [schema::GRID_ROWS, schema::GRID_COLS, schema::LAYERS_PER_CELL];
    let sizes = axes.map(|key| (key.name, fields.optional(key, fields::size)));
    let mut given = Vec::new();
    for (key, size) in sizes {
        given.extend(size?.map(|size| (key, size)));
    }
    let Some(list) = fields.get(schema::LAYERS).filter(|list| list.kind() == Kind::List) else { return Ok(()) };
    let layers = list.elements(0).map_err(|error| fields.report(error))?.count;
    let cells = error::grid_cells(&given);
    let fits = match cells {
        Some(cells) if given.len() == axes.len() => cells == layers as u128,
        Some(cells) => (layers as u128).is_multiple_of(cells),
        None => false,
    };
    if fits {
        return Ok(());
    }
    Err(fields.report(ConfigError::GridMismatch { sizes: given, layers, layers_span: list.span() }))
}

//! Branches over one input, and the ways to combine what they give.

use std::collections::BTreeSet;

use super::context::Reported;
use super::error::{At, ConfigError};
use super::fields::{self, Fields, Object};
use super::layers;
use super::network::{Layer, LayerKind};
use super::schema::{self, Key, Named};
use super::softmax::{GATE_VARIANTS, SoftmaxVariant};
use super::spanned::{Kind, Spanned, Value};

/// Layers that all read the same input, and one value made of their outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Parallel {
    /// At least one.
    pub branches: Vec<Layer>,
    /// How their outputs become one.
    pub mode: CombineMode,
}

/// How a [`Parallel`] combines its branches.
#[derive(Debug, Clone, PartialEq)]
pub enum CombineMode {
    /// `concat`: one after another.
    Concat {
        /// The axis, counted without the batch and from the end where negative. Left out, it is the first where the
        /// outputs agree in all others; where they don't, each is flattened.
        axis: Option<Spanned<i64>>,
    },
    /// `add`: their sum.
    Add,
    /// `multiply`: their product.
    Multiply,
    /// `average`: their sum, divided by their number.
    Average,
    /// `grid_scatter`: flattened, in the order of the cells that they are put into.
    GridScatter(GridScatter),
    /// `filter`: weighted by a gate and added.
    Filter(Filter),
}

/// Cells of a grid for the branches; all indices were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridScatter {
    /// The branches in the order of their cells: rows first, then columns, then layers.
    pub order: Vec<usize>,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// What gives a logit for each branch; left out, all weigh the same.
    pub gate: Option<Box<Layer>>,
    /// How logits become weights.
    pub softmax: SoftmaxVariant,
    /// What the logits are divided by, more than 0; default 1.
    pub temperature: f64,
    /// How many branches have a weight, those of the greatest logits; left out, all.
    pub top_k: Option<Spanned<u64>>,
}

/// The modes. The first is the default.
pub(super) const MODES: &[Named<CombineMode>] = &[
    Named { name: "concat", aliases: &[], keys: &[schema::AXIS], read: concat },
    Named::plain("add", &[], |_| Ok(CombineMode::Add)),
    Named::plain("multiply", &[], |_| Ok(CombineMode::Multiply)),
    Named::plain("average", &["avg"], |_| Ok(CombineMode::Average)),
    Named {
        name: "grid_scatter",
        aliases: &[],
        keys: &[schema::GRID_POSITIONS, schema::GRID_OUTPUT_ROWS, schema::GRID_OUTPUT_COLS, schema::GRID_OUTPUT_LAYERS],
        read: grid_scatter,
    },
    Named {
        name: "filter",
        aliases: &[],
        keys: &[schema::FILTER_GATE, schema::FILTER_SOFTMAX, schema::FILTER_TEMPERATURE, schema::FILTER_TOP_K],
        read: filter,
    },
];

pub(super) fn parallel(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let list = layers::inner_list(fields);
    let branches = list.and_then(|(key, list)| {
        let branches = layers::read_list(fields.context, fields.object.path.as_ref(), key, list)?;
        if branches.is_empty() {
            return Err(rule(fields, key.name, "a parallel layer has at least one branch", list));
        }
        Ok(branches)
    });
    let mode = fields::read_choice(fields, schema::COMBINE_MODE, "combine mode", MODES);
    let (branches, mode) = (branches?, mode?);
    if let (CombineMode::GridScatter(grid), Some(positions)) = (&mode, fields.get(schema::GRID_POSITIONS))
        && grid.order.len() != branches.len()
    {
        let text = "the list has one position for each branch";
        return Err(rule(fields, schema::GRID_POSITIONS.name, text, positions));
    }
    Ok(LayerKind::Parallel(Parallel { branches, mode }))
}

fn rule(fields: &mut Fields<'_, '_>, key: &str, rule: &'static str, value: Value<'_>) -> Reported {
    let at = fields.object.at(Some(key.to_owned()));
    fields.report(ConfigError::Rule { at, rule, span: value.span() })
}

fn concat(fields: &mut Fields<'_, '_>) -> Result<CombineMode, Reported> {
    Ok(CombineMode::Concat { axis: fields.optional(schema::AXIS, fields::signed)? })
}

fn filter(fields: &mut Fields<'_, '_>) -> Result<CombineMode, Reported> {
    let gate = layers::inner(fields, schema::FILTER_GATE, |path| path.gate());
    let softmax = fields::read_choice(fields, schema::FILTER_SOFTMAX, "softmax variant of a gate", GATE_VARIANTS);
    let temperature = layers::or_default(fields, schema::FILTER_TEMPERATURE, 1.0);
    let top_k = fields.optional(schema::FILTER_TOP_K, fields::size);
    let (gate, top_k) = (gate?, top_k?);
    if gate.is_none()
        && let Some(value) = fields.get(schema::FILTER_TOP_K)
    {
        return Err(rule(fields, schema::FILTER_TOP_K.name, "the greatest are chosen by a `filter_gate`", value));
    }
    Ok(CombineMode::Filter(Filter { gate: gate.map(Box::new), softmax: softmax?, temperature: temperature?, top_k }))
}

/// Where a branch goes.
struct Position {
    branch: u64,
    /// Row, column, layer.
    cell: [u64; 3],
}

const AXES: [(Key, Key); 3] = [
    (schema::TARGET_ROW, schema::GRID_OUTPUT_ROWS),
    (schema::TARGET_COL, schema::GRID_OUTPUT_COLS),
    (schema::TARGET_LAYER, schema::GRID_OUTPUT_LAYERS),
];

fn grid_scatter(fields: &mut Fields<'_, '_>) -> Result<CombineMode, Reported> {
    let rows = fields.required(schema::GRID_OUTPUT_ROWS, fields::size);
    let cols = fields.required(schema::GRID_OUTPUT_COLS, fields::size);
    let depth = fields.optional_or(schema::GRID_OUTPUT_LAYERS, 1, fields::size);
    let Some(list) = fields.get(schema::GRID_POSITIONS) else {
        return Err(fields.missing(schema::GRID_POSITIONS, &[]));
    };
    let at = At { key: Some(schema::GRID_POSITIONS.name.to_owned()), ..fields.object.at(None) };
    let elements = match list.kind() {
        Kind::List => list.elements(usize::MAX),
        _ => Err(fields::wrong_type(at, list, "a list of positions", list.description())),
    };
    let elements = elements.map_err(|error| fields.report(error))?.first;
    let positions: Vec<_> = elements.iter().enumerate().map(|(index, &value)| position(fields, index, value)).collect();
    let positions = positions.into_iter().collect::<Result<Vec<_>, _>>()?;
    let extents = [rows?.value, cols?.value, depth?.value];
    let (mut order, mut branches, mut cells) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (index, (position, &value)) in positions.iter().zip(&elements).enumerate() {
        let place = format!("{}.{index}", schema::GRID_POSITIONS.name);
        for ((cell, extent), (target, size)) in position.cell.iter().zip(extents).zip(AXES) {
            if *cell >= extent {
                let at = fields.object.at(Some(format!("{place}.{}", target.name)));
                let error = ConfigError::OutsideGrid { at, cell: *cell, size: size.name, extent, span: value.span() };
                return Err(fields.report(error));
            }
        }
        // One position a branch: the list's length is compared with the branches' number where that is known.
        if position.branch >= positions.len() as u64 {
            return Err(rule(fields, &place, "`branch_index` is less than the number of positions", value));
        }
        if !branches.insert(position.branch) {
            return Err(rule(fields, &place, "each branch has one position, this one's has another", value));
        }
        if !cells.insert(position.cell) {
            return Err(rule(fields, &place, "each cell takes one branch, this one has another", value));
        }
        order.push((position.cell, usize::try_from(position.branch).unwrap_or(usize::MAX)));
    }
    // In the order of rows, columns and layers.
    order.sort_unstable();
    Ok(CombineMode::GridScatter(GridScatter { order: order.into_iter().map(|(_, branch)| branch).collect() }))
}

fn position(fields: &mut Fields<'_, '_>, index: usize, value: Value<'_>) -> Result<Position, Reported> {
    let place = format!("{}.{index}", schema::GRID_POSITIONS.name);
    let object = Object::read_part(fields.context, fields.object.path.clone(), &place, value)?;
    let owner = fields.owner.clone();
    let mut own = Fields { context: fields.context, object: &object, owner, anchor: value.span() };
    own.refuse_others(schema::POSITION_KEYS, &Default::default());
    let branch = own.optional_or(schema::BRANCH_INDEX, index as u64, fields::count);
    let row = own.required(schema::TARGET_ROW, fields::count);
    let col = own.required(schema::TARGET_COL, fields::count);
    let layer = own.optional_or(schema::TARGET_LAYER, 0, fields::count);
    Ok(Position { branch: branch?.value, cell: [row?.value, col?.value, layer?.value] })
}

//! Recurrent layers: their keys and their form.

use super::activation;
use super::context::Reported;
use super::error::ConfigError;
use super::fields::{self, Fields};
use super::network::{Activation, LayerKind};
use super::schema::{self, Key};
use super::spanned::Spanned;

/// A cell run over a sequence, step by step.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// What a step computes.
    pub cell: Cell,
    /// Elements of a step of the input.
    pub input_size: Option<Spanned<u64>>,
    /// Elements of the state.
    pub hidden_size: Spanned<u64>,
    /// Steps.
    pub seq_length: Option<Spanned<u64>>,
    /// What is added to the products.
    pub biases: CellBiases,
    /// Whether a second cell runs from the last step to the first.
    pub bidirectional: bool,
    /// Whether the states of all steps are given, or that of the last alone.
    pub return_sequences: bool,
    /// Whether the state before the first step is a weight; else it is zero.
    pub learned_start: bool,
}

/// What a step of a [`Recurrent`] layer computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// `rnn`: one product with the input, one with the state, an activation.
    Rnn(Activation),
    /// `lstm`: long short-term memory.
    Lstm,
    /// `gru`: gated recurrent unit.
    Gru,
}

impl Cell {
    /// The layer type's name.
    pub const fn name(self) -> &'static str {
        match self {
            Cell::Rnn(_) => "rnn",
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
        }
    }

    /// How many gates there are, whose weights lie one after another.
    pub const fn gates(self) -> u64 {
        match self {
            Cell::Rnn(_) => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// What a cell adds to its products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellBiases {
    /// One to the product with the input, one to that with the state.
    Both,
    /// One to the product with the input.
    Single,
    /// Nothing.
    None,
}

pub(super) fn rnn(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let activation = activation::read_or_default(fields);
    // The rest is looked at whatever is wrong with the activation.
    let layer = recurrent(fields, Cell::Rnn(*activation.as_ref().unwrap_or(&Activation::Tanh)));
    activation?;
    layer
}

pub(super) fn lstm(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    recurrent(fields, Cell::Lstm)
}

pub(super) fn gru(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    recurrent(fields, Cell::Gru)
}

fn recurrent(fields: &mut Fields<'_, '_>, cell: Cell) -> Result<LayerKind, Reported> {
    const BIASES: [(&str, CellBiases); 3] =
        [("both", CellBiases::Both), ("single", CellBiases::Single), ("none", CellBiases::None)];
    const STARTS: [(&str, bool); 2] = [("zeros", false), ("learned", true)];
    let input_size = fields.optional(schema::INPUT_SIZE, fields::size);
    let hidden_size = fields.required(schema::HIDDEN_SIZE, fields::size);
    let seq_length = fields.optional(schema::SEQ_LENGTH, fields::size);
    let biases = one_of(fields, schema::BIASES, "form of biases", &BIASES, CellBiases::Both);
    let bidirectional = fields.optional_or(schema::BIDIRECTIONAL, false, fields::boolean);
    let return_sequences = fields.optional_or(schema::RETURN_SEQUENCES, true, fields::boolean);
    let learned_start = one_of(fields, schema::INITIAL_STATE, "initial state", &STARTS, false);
    Ok(LayerKind::Recurrent(Recurrent {
        cell,
        input_size: input_size?,
        hidden_size: hidden_size?,
        seq_length: seq_length?,
        biases: biases?,
        bidirectional: bidirectional?.value,
        return_sequences: return_sequences?.value,
        learned_start: learned_start?,
    }))
}

/// What a word stands for.
fn one_of<T: Copy>(
    fields: &mut Fields<'_, '_>,
    key: Key,
    what: &'static str,
    words: &[(&'static str, T)],
    default: T,
) -> Result<T, Reported> {
    let Some(name) = fields.optional(key, fields::string)? else { return Ok(default) };
    match words.iter().find(|(word, _)| *word == name.value) {
        Some(&(_, value)) => Ok(value),
        None => {
            let known: Vec<&'static str> = words.iter().map(|&(word, _)| word).collect();
            Err(fields.report(ConfigError::UnknownName { what, name, spellings: known.clone(), known }))
        }
    }
}

//! Reads the text that [`super::print`](mod@super::print) writes.
//!
//! The text is untrusted: every error is an [`ParseError`] with its place, sizes are checked before anything is built,
//! and the graph that comes back is verified.

use std::collections::BTreeMap;

use super::{ContractAxes, Graph, NodeId, Op, ReduceKind, TensorType, VerifyError, Window, verify};
use crate::diagnostics::{Span, nearest};
use crate::kernel::scalar::{BinaryOp, CompareOp, UnaryOp};
use crate::limits;
use crate::numerics::quantise::CodeFormat;
use crate::types::{DType, Shape};

/// Why a text is no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something else was expected here.
    #[error("expected {expected}")]
    Expected {
        /// What.
        expected: String,
        /// Where.
        span: Span,
    },
    /// A word that names no operation.
    #[error("there is no operation `{name}`{}", hint(nearest))]
    UnknownOp {
        /// The word.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// Where.
        span: Span,
    },
    /// A node that does not exist (yet).
    #[error("%{number} is not an earlier node")]
    UnknownNode {
        /// Its number.
        number: u64,
        /// Where.
        span: Span,
    },
    /// An attribute that the operation needs.
    #[error("`{op}` needs {name}=")]
    MissingAttribute {
        /// The operation.
        op: String,
        /// The attribute.
        name: &'static str,
        /// Where.
        span: Span,
    },
    /// The graph as a whole.
    #[error("{0}")]
    Invalid(#[from] VerifyError),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |name| format!(", did you mean `{name}`?"))
}

impl ParseError {
    /// Where in the text.
    pub fn span(&self) -> Option<Span> {
        match self {
            ParseError::Expected { span, .. }
            | ParseError::UnknownOp { span, .. }
            | ParseError::UnknownNode { span, .. }
            | ParseError::MissingAttribute { span, .. } => Some(*span),
            ParseError::Invalid(_) => None,
        }
    }
}

/// Reads one graph and verifies it.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.word("graph")?;
    let mut graph = Graph::new(cursor.string()?);
    cursor.punctuation('{')?;
    let mut nodes: BTreeMap<u64, NodeId> = BTreeMap::new();
    let mut back = Vec::new();
    while !cursor.take('}') {
        if cursor.peek() == Some('%') {
            node(&mut cursor, &mut graph, &mut nodes, &mut back)?;
        } else {
            cursor.word("output")?;
            let name = cursor.string()?;
            let id = cursor.operand(&nodes)?;
            graph.add_output(name, id);
        }
        if graph.len() > limits::MAX_GRAPH_NODES {
            return Err(VerifyError::TooMany(graph.len()).into());
        }
    }
    if cursor.peek().is_some() {
        return Err(cursor.expected("the end"));
    }
    for (recur, number, span) in back {
        graph.close(recur, *nodes.get(&number).ok_or(ParseError::UnknownNode { number, span })?);
    }
    verify(&graph)?;
    Ok(graph)
}

/// `back` collects recurrences, with the number of their second operand, which may be a later node.
fn node(
    cursor: &mut Cursor<'_>,
    graph: &mut Graph,
    nodes: &mut BTreeMap<u64, NodeId>,
    back: &mut Vec<(NodeId, u64, Span)>,
) -> Result<(), ParseError> {
    cursor.punctuation('%')?;
    let number = cursor.number()?;
    if nodes.contains_key(&number) {
        return Err(cursor.expected("a new node number"));
    }
    cursor.punctuation('=')?;
    let start = cursor.skip_space();
    let name = cursor.identifier()?;
    let span = Span::new(start, cursor.at);
    let mut operands = Vec::new();
    let mut after = None;
    while cursor.peek() == Some('%') {
        if name == "recur" && operands.len() == 1 && after.is_none() {
            after = Some(cursor.reference()?);
        } else {
            operands.push(cursor.operand(nodes)?);
        }
    }
    let op = operation(cursor, name, span)?;
    cursor.punctuation(':')?;
    let dtype = cursor.dtype()?;
    let shape = cursor.shape()?;
    let origin = if cursor.take('@') { cursor.path()? } else { "" };
    let id = graph.add_typed(op, TensorType { dtype, shape }, &operands, origin);
    nodes.insert(number, id);
    back.extend(after.map(|(number, span)| (id, number, span)));
    Ok(())
}

/// The operation called `name` with the attributes that follow.
fn operation(cursor: &mut Cursor<'_>, name: &str, span: Span) -> Result<Op, ParseError> {
    if let Some(op) = UnaryOp::from_name(name) {
        return Ok(Op::Unary(op));
    }
    if let Some(op) = BinaryOp::from_name(name) {
        return Ok(Op::Binary(op));
    }
    if let Some(op) = CompareOp::from_name(name) {
        return Ok(Op::Compare(op));
    }
    match name {
        "input" => return Ok(Op::Input(cursor.string()?)),
        "weight" => return Ok(Op::Weight(cursor.string()?)),
        "codes" => {
            let name = cursor.string()?;
            cursor.word("format")?;
            cursor.punctuation('=')?;
            let format = cursor.identifier()?;
            let format =
                CodeFormat::from_name(format).ok_or_else(|| cursor.expected("a format of codes before this"))?;
            return Ok(Op::Codes(name, format));
        }
        "iota" => return Ok(Op::Iota),
        "gather" => return Ok(Op::Gather),
        "select" => return Ok(Op::Select),
        "constant" => {
            let bits: Option<Vec<u32>> = cursor.list()?.into_iter().map(|bits| u32::try_from(bits).ok()).collect();
            let bits = bits.ok_or_else(|| cursor.expected("32-bit constants"))?;
            return Ok(Op::Constant(bits.into()));
        }
        "convert" | "broadcast" | "reshape" | "transpose" | "slice" | "pad" | "window" | "contract" | "reduce"
        | "recur" => {}
        _ => {
            let words =
                ["input", "weight", "codes", "constant", "select", "convert", "broadcast", "reshape", "transpose"];
            let more = ["iota", "gather", "slice", "pad", "window", "contract", "reduce", "recur"];
            let scalar = UnaryOp::ALL.iter().map(|op| op.name()).chain(BinaryOp::ALL.iter().map(|op| op.name()));
            let known = words.into_iter().chain(more).chain(scalar).chain(CompareOp::ALL.iter().map(|op| op.name()));
            let nearest = nearest(name, known).map(str::to_string);
            return Err(ParseError::UnknownOp { name: name.to_string(), nearest, span });
        }
    }
    let mut attributes = Attributes { op: name, span, values: BTreeMap::new() };
    let known: &[&str] = match name {
        "convert" => &["to"],
        "broadcast" => &["shape", "axes"],
        "reshape" => &["shape"],
        "transpose" => &["permutation"],
        "slice" => &["starts", "ends", "steps"],
        "pad" => &["low", "high", "value"],
        "window" => &["axes", "size", "stride", "dilation", "low", "high", "fill"],
        "recur" => &["steps"],
        "contract" => &["lhs_batch", "rhs_batch", "lhs_reduced", "rhs_reduced"],
        _ => &["op", "axes"],
    };
    while cursor.peek().is_some_and(|c| c.is_ascii_lowercase()) {
        let start = cursor.skip_space();
        let key = cursor.identifier()?;
        if !known.contains(&key) || attributes.values.contains_key(key) {
            let expected = format!("one of {}= here, each once", known.join("=, "));
            return Err(ParseError::Expected { expected, span: Span::new(start, cursor.at) });
        }
        cursor.punctuation('=')?;
        let value = match cursor.peek() {
            Some('[') => Attribute::List(cursor.list()?),
            Some(c) if c.is_ascii_digit() => Attribute::Number(cursor.number()?),
            _ => Attribute::Word(cursor.identifier()?),
        };
        attributes.values.insert(key, value);
    }
    Ok(match name {
        "convert" => Op::Convert(attributes.parsed("to", DType::from_name)?),
        "broadcast" => Op::Broadcast { shape: Shape::from(attributes.list("shape")?), axes: attributes.axes("axes")? },
        "reshape" => Op::Reshape(Shape::from(attributes.list("shape")?)),
        "transpose" => Op::Transpose(attributes.axes("permutation")?),
        "slice" => Op::Slice {
            starts: attributes.list("starts")?,
            ends: attributes.list("ends")?,
            steps: attributes.list("steps")?,
        },
        "pad" => {
            Op::Pad { low: attributes.list("low")?, high: attributes.list("high")?, value: attributes.bits("value")? }
        }
        "window" => Op::Window(Window {
            axes: attributes.axes("axes")?,
            size: attributes.list("size")?,
            stride: attributes.list("stride")?,
            dilation: attributes.list("dilation")?,
            low: attributes.list("low")?,
            high: attributes.list("high")?,
            fill: attributes.bits("fill")?,
        }),
        "contract" => Op::Contract(ContractAxes {
            lhs_batch: attributes.axes("lhs_batch")?,
            rhs_batch: attributes.axes("rhs_batch")?,
            lhs_reduced: attributes.axes("lhs_reduced")?,
            rhs_reduced: attributes.axes("rhs_reduced")?,
        }),
        "recur" => Op::Recur(attributes.number("steps")?),
        _ => Op::Reduce {
            op: attributes.parsed("op", |word| ReduceKind::ALL.into_iter().find(|op| op.name() == word))?,
            axes: attributes.axes("axes")?,
        },
    })
}

enum Attribute<'a> {
    List(Vec<u64>),
    Number(u64),
    Word(&'a str),
}

struct Attributes<'a> {
    op: &'a str,
    span: Span,
    values: BTreeMap<&'a str, Attribute<'a>>,
}

impl Attributes<'_> {
    fn missing(&self, name: &'static str) -> ParseError {
        ParseError::MissingAttribute { op: self.op.to_string(), name, span: self.span }
    }

    fn list(&self, name: &'static str) -> Result<Vec<u64>, ParseError> {
        match self.values.get(name) {
            Some(Attribute::List(list)) if list.len() <= limits::MAX_RANK => Ok(list.clone()),
            _ => Err(self.missing(name)),
        }
    }

    fn axes(&self, name: &'static str) -> Result<Vec<usize>, ParseError> {
        Ok(self.list(name)?.into_iter().map(|axis| usize::try_from(axis).unwrap_or(usize::MAX)).collect())
    }

    fn bits(&self, name: &'static str) -> Result<u32, ParseError> {
        u32::try_from(self.number(name)?).map_err(|_| self.missing(name))
    }

    fn number(&self, name: &'static str) -> Result<u64, ParseError> {
        match self.values.get(name) {
            Some(&Attribute::Number(number)) => Ok(number),
            _ => Err(self.missing(name)),
        }
    }

    fn parsed<T>(&self, name: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, ParseError> {
        match self.values.get(name) {
            Some(Attribute::Word(word)) => read(word).ok_or_else(|| self.missing(name)),
            _ => Err(self.missing(name)),
        }
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Skips white space; gives the place after it.
    fn skip_space(&mut self) -> usize {
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.at
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expected(&mut self, expected: &str) -> ParseError {
        let start = self.skip_space();
        let length = self.rest().chars().next().map_or(0, char::len_utf8);
        ParseError::Expected { expected: expected.to_string(), span: Span::new(start, start + length) }
    }

    fn punctuation(&mut self, wanted: char) -> Result<(), ParseError> {
        if self.take(wanted) { Ok(()) } else { Err(self.expected(&format!("`{wanted}`"))) }
    }

    fn while_matches(&mut self, matches: impl Fn(char) -> bool) -> &'a str {
        self.skip_space();
        let rest = self.rest();
        let length = rest.find(|c| !matches(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or("")
    }

    fn identifier(&mut self) -> Result<&'a str, ParseError> {
        let word = self.while_matches(|c| c.is_ascii_alphanumeric() || c == '_');
        if word.is_empty() { Err(self.expected("a word")) } else { Ok(word) }
    }

    fn path(&mut self) -> Result<&'a str, ParseError> {
        let path = self.while_matches(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if path.is_empty() { Err(self.expected("a layer's path")) } else { Ok(path) }
    }

    fn word(&mut self, wanted: &str) -> Result<(), ParseError> {
        self.skip_space();
        match self.rest().strip_prefix(wanted) {
            Some(_) => {
                self.at += wanted.len();
                Ok(())
            }
            None => Err(self.expected(&format!("`{wanted}`"))),
        }
    }

    /// A decimal number, or a hexadecimal one after `0x`.
    fn number(&mut self) -> Result<u64, ParseError> {
        let digits = self.while_matches(|c| c.is_ascii_alphanumeric());
        let number = match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        number.map_err(|_| self.expected("a number"))
    }

    fn list(&mut self) -> Result<Vec<u64>, ParseError> {
        self.punctuation('[')?;
        let mut list = Vec::new();
        if self.take(']') {
            return Ok(list);
        }
        loop {
            list.push(self.number()?);
            if self.take(']') {
                return Ok(list);
            }
            self.punctuation(',')?;
        }
    }

    fn shape(&mut self) -> Result<Shape, ParseError> {
        Ok(Shape::from(self.list()?))
    }

    fn dtype(&mut self) -> Result<DType, ParseError> {
        let word = self.identifier()?;
        DType::from_name(word).ok_or_else(|| self.expected("an element type before this"))
    }

    /// `%number` and its place.
    fn reference(&mut self) -> Result<(u64, Span), ParseError> {
        let start = self.skip_space();
        self.punctuation('%')?;
        let number = self.number()?;
        Ok((number, Span::new(start, self.at)))
    }

    fn operand(&mut self, nodes: &BTreeMap<u64, NodeId>) -> Result<NodeId, ParseError> {
        let (number, span) = self.reference()?;
        nodes.get(&number).copied().ok_or(ParseError::UnknownNode { number, span })
    }

    /// A JSON string.
    fn string(&mut self) -> Result<String, ParseError> {
        self.skip_space();
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
        match values.next() {
            Some(Ok(string)) => {
                self.at += values.byte_offset();
                Ok(string)
            }
            _ => Err(self.expected("a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_OP: &str = r#"graph "every \"op\"" {
  %0 = input "input" : f32[2, 3, 8]
  %1 = weight "layers.0.weight" : f32[4, 3, 3] @layers.0
  %2 = window %0 axes=[2] size=[3] stride=[1] dilation=[1] low=[1] high=[1] fill=0x00000000 : f32[2, 3, 8, 3] @layers.0
  %3 = contract %1 %2 lhs_batch=[] rhs_batch=[] lhs_reduced=[2, 1] rhs_reduced=[3, 1] : f32[4, 2, 8] @layers.0
  %4 = transpose %3 permutation=[1, 0, 2] : f32[2, 4, 8]
  %5 = constant [0x3f800000] : f32[]
  %6 = broadcast %5 shape=[2, 4, 8] axes=[] : f32[2, 4, 8]
  %7 = lt %4 %6 : bool[2, 4, 8]
  %8 = exp %4 : f32[2, 4, 8]
  %9 = select %7 %8 %6 : f32[2, 4, 8]
  %10 = reduce %9 op=max axes=[2] : f32[2, 4]
  %11 = pad %10 low=[0, 1] high=[0, 1] value=0xff800000 : f32[2, 6]
  %12 = slice %11 starts=[0, 1] ends=[2, 6] steps=[1, 2] : f32[2, 3]
  %13 = reshape %12 shape=[6] : f32[6]
  %14 = convert %13 to=i32 : i32[6]
  %15 = iota : u32[6]
  %16 = convert %15 to=i32 : i32[6]
  %17 = add %14 %16 : i32[6]
  %18 = gather %17 %15 : i32[6]
  %19 = codes "layers.1.weight" format=i4 : i32[2, 6] @layers.1
  %20 = weight "layers.1.weight.scale" : f32[2] @layers.1
  %21 = contract %19 %18 lhs_batch=[] rhs_batch=[] lhs_reduced=[1] rhs_reduced=[0] : i32[2] @layers.1
  %22 = convert %21 to=f32 : f32[2] @layers.1
  %23 = mul %22 %20 : f32[2] @layers.1
  output "output" %23
}
"#;

    #[test]
    fn text_round_trips() {
        let graph = parse(EVERY_OP).unwrap();
        assert_eq!(graph.to_string(), EVERY_OP);
    }

    /// Sums of prefixes, and a recurrence of two states.
    const RECURRENCES: &str = r#"graph "recurrences" {
  %0 = input "input" : f32[5, 3]
  %1 = constant [0x00000000] : f32[]
  %2 = broadcast %1 shape=[3] axes=[] : f32[3]
  %3 = recur %2 %4 steps=5 : f32[5, 3]
  %4 = add %3 %0 : f32[5, 3]
  %5 = recur %2 %9 steps=5 : f32[5, 3]
  %6 = mul %5 %0 : f32[5, 3]
  %7 = recur %2 %8 steps=5 : f32[5, 3]
  %8 = add %6 %7 : f32[5, 3]
  %9 = sub %8 %5 : f32[5, 3]
  output "sums" %4
  output "both" %9
}
"#;

    #[test]
    fn recurrences_round_trip() {
        let graph = parse(RECURRENCES).unwrap();
        assert_eq!(graph.to_string(), RECURRENCES);
        let sizes: Vec<usize> = graph.cycles().iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 5]);
    }

    #[test]
    fn a_recurrence_may_carry_itself() {
        assert!(parse(&RECURRENCES.replacen("recur %2 %4", "recur %2 %3", 1)).is_ok());
    }

    #[test]
    fn a_cycle_is_a_recurrence_slice_by_slice() {
        let parsed = |from: &str, to: &str| parse(&RECURRENCES.replacen(from, to, 1)).unwrap_err().to_string();
        let across = parsed("%4 = add %3 %0 : f32[5, 3]", "%4 = pad %11 low=[1, 0] high=[0, 0] value=0 : f32[5, 3]");
        assert_eq!(across, "%11 is not an earlier node");
        let slice = "%10 = slice %3 starts=[0, 0] ends=[4, 3] steps=[1, 1] : f32[4, 3]\n";
        let shifted = format!("{slice} %4 = pad %10 low=[1, 0] high=[0, 0] value=0 : f32[5, 3]");
        let error = parsed("%4 = add %3 %0 : f32[5, 3]", &shifted);
        assert!(error.contains("`slice` is a part of a recurrence"), "{error}");
        assert!(parsed("recur %2 %4 steps=5", "recur %2 steps=5").contains("takes 2 operands"));
        assert!(parsed("recur %2 %4 steps=5", "recur %2 %4 steps=6").contains("does not take"));
        assert_eq!(parsed("recur %2 %4", "recur %2 %44"), "%44 is not an earlier node");
    }

    #[test]
    fn errors_point_at_their_place() {
        let broken = EVERY_OP.replace("= exp", "= sigmold");
        let error = parse(&broken).unwrap_err();
        assert_eq!(error.to_string(), "there is no operation `sigmold`, did you mean `sigmoid`?");
        assert_eq!(&broken[error.span().unwrap().range()], "sigmold");
        let error = parse(&EVERY_OP.replace("%13 to=", "%31 to=")).unwrap_err();
        assert_eq!(error.to_string(), "%31 is not an earlier node");
        let error = parse(&EVERY_OP.replace("f32[6]\n  %14", "f32[7]\n  %14")).unwrap_err();
        assert!(matches!(error, ParseError::Invalid(VerifyError::Type { .. })), "{error}");
        assert!(parse("").is_err());
        assert!(parse("graph \"x\" {}").is_err(), "a graph has an output");
        let error = parse(&EVERY_OP.replace("op=max axes", "op=max op=min axes")).unwrap_err();
        assert_eq!(error.to_string(), "expected one of op=, axes= here, each once");
        assert!(parse(&EVERY_OP.replace("op=max", "op=max keep=[1]")).is_err());
        assert!(parse(&EVERY_OP.replace("size=[3] ", "")).unwrap_err().to_string().contains("needs size="));
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(cut in 0..EVERY_OP.len(), byte in 0u8..128, end in 0..EVERY_OP.len()) {
            let mut bytes = EVERY_OP.as_bytes().to_vec();
            bytes[cut] = byte;
            bytes.truncate(end.max(1));
            let _ = parse(std::str::from_utf8(&bytes).unwrap());
            bytes.resize(EVERY_OP.len(), b'9');
            let _ = parse(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

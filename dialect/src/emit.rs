//! The new network: layers as they are made, and their text with the weights' names.

use std::ops::Range;

use loom_ir::config::LayerPath;
use loom_ir::diagnostics::Span;
use loom_ir::limits;
use serde_json::Value as Json;

use crate::error::DialectError;
use crate::{Tensor, Values};

/// A layer of the new network.
#[derive(Debug)]
pub(crate) struct Node {
    type_name: &'static str,
    keys: Vec<(&'static str, Json)>,
    name: Option<String>,
    /// The old layer that it comes from.
    span: Span,
    weights: Vec<Weight>,
    branches: Option<Vec<Node>>,
    gate: Option<Box<Node>>,
    attached: Option<Box<Node>>,
}

/// A weight of a [`Node`]: its role and its shape.
#[derive(Debug)]
pub(crate) struct Weight {
    pub role: &'static str,
    pub dims: Vec<u64>,
    pub values: Values,
}

impl Node {
    pub fn new(type_name: &'static str, span: Span) -> Node {
        let (keys, weights) = (Vec::new(), Vec::new());
        Node { type_name, keys, name: None, span, weights, branches: None, gate: None, attached: None }
    }

    /// `nodes` as one.
    pub fn sequential(nodes: Vec<Node>, span: Span) -> Node {
        Node { branches: Some(nodes), ..Node::new("sequential", span) }
    }

    /// Branches, combined this way.
    pub fn parallel(mode: &'static str, branches: Vec<Node>, span: Span) -> Node {
        Node { branches: Some(branches), ..Node::new("parallel", span).with("combine_mode", mode) }
    }

    /// factor · x + offset
    pub fn scale(factor: f64, offset: Option<f64>, span: Span) -> Node {
        let node = Node::new("scale", span).with("factor", factor);
        match offset {
            Some(offset) => node.with("offset", offset),
            None => node,
        }
    }

    pub fn with(mut self, key: &'static str, value: impl Into<Json>) -> Node {
        self.keys.push((key, value.into()));
        self
    }

    /// With the key, unless it would say what is so without it.
    pub fn with_unless<T: Into<Json> + PartialEq>(self, default: T, key: &'static str, value: T) -> Node {
        if value == default { self } else { self.with(key, value) }
    }

    pub fn with_weights(mut self, weights: impl IntoIterator<Item = Option<Weight>>) -> Node {
        self.weights.extend(weights.into_iter().flatten());
        self
    }

    pub fn with_branches(mut self, branches: Vec<Node>) -> Node {
        self.branches = Some(branches);
        self
    }

    pub fn with_gate(mut self, gate: Option<Node>) -> Node {
        self.gate = gate.map(Box::new);
        self
    }

    pub fn with_attached(mut self, attached: Node) -> Node {
        self.attached = Some(Box::new(attached));
        self
    }
}

/// Layers one after another, and the shape of a sample after the last one.
#[derive(Debug)]
pub(crate) struct Chain {
    nodes: Vec<Node>,
    pub dims: Vec<u64>,
    /// Whether the last layer is a convolution, whose output other layers read in their own way.
    feature_map: bool,
    span: Span,
}

impl Chain {
    /// No layer yet.
    pub fn new(dims: Vec<u64>, span: Span) -> Chain {
        Chain { nodes: Vec::new(), dims, feature_map: false, span }
    }

    /// No layer yet, in a branch that reads what this chain gives.
    pub fn branch(&self, span: Span) -> Chain {
        Chain { nodes: Vec::new(), dims: self.dims.clone(), feature_map: self.feature_map, span }
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn is_feature_map(&self) -> bool {
        self.feature_map
    }

    pub fn span(&self) -> Span {
        self.span
    }

    /// Elements of a sample.
    pub fn elements(&self) -> u64 {
        self.dims.iter().fold(1, |product: u64, &size| product.saturating_mul(size))
    }

    pub fn push(&mut self, node: Node, dims: Vec<u64>) {
        self.nodes.push(node);
        self.dims = dims;
        self.feature_map = false;
    }

    /// A layer that keeps the shape.
    pub fn push_same(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// A convolution.
    pub fn push_convolution(&mut self, node: Node, dims: Vec<u64>) {
        self.push(node, dims);
        self.feature_map = true;
    }

    /// The same elements as `dims`, which are as many.
    pub fn view(&mut self, dims: &[u64]) {
        if self.dims == dims && !self.feature_map {
            return;
        }
        let node = match dims {
            [_] => Node::new("flatten", self.span),
            _ => Node::new("reshape", self.span).with("shape", dims.to_vec()),
        };
        self.push(node, dims.to_vec());
    }

    /// The same for a convolution, which reads another one's output as it is.
    pub fn view_as_map(&mut self, dims: &[u64]) {
        if self.dims != dims {
            self.view(dims);
        }
    }

    /// As one axis.
    pub fn flat(&mut self) {
        self.view(&[self.elements()]);
    }

    /// Elements `start` to `end` of the one axis.
    pub fn slice(&mut self, start: u64, end: u64) {
        let node = Node::new("slice", self.span).with_unless(0, "start", start).with("end", end);
        self.push(node, vec![end.saturating_sub(start)]);
    }

    /// How many layers there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The name of the value after the first so many layers, made up if the layer that gives it has none.
    pub fn name_value(&mut self, layers: usize, next: &mut u64) -> String {
        let last = layers.checked_sub(1).and_then(|last| self.nodes.get_mut(last));
        let Some(last) = last else { return "input".to_owned() };
        let name = last.name.get_or_insert_with(|| {
            let name = format!("skip.{next}");
            *next = next.saturating_add(1);
            name
        });
        name.clone()
    }

    /// The whole as one layer.
    pub fn into_node(mut self) -> Node {
        match self.nodes.pop() {
            Some(only) if self.nodes.is_empty() => only,
            last => {
                self.nodes.extend(last);
                Node::sequential(self.nodes, self.span)
            }
        }
    }

    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }
}

/// The text of a network, where its layers come from, and its weights.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    pub text: String,
    /// Bytes of the text, and the old layer that they come from; inner ones after those around them.
    pub origins: Vec<(Range<usize>, Span)>,
    pub tensors: Vec<Tensor>,
    layers: usize,
}

impl Emitted {
    /// Writes a network.
    pub fn network(keys: &[(&str, Json)], nodes: Vec<Node>) -> Result<Emitted, DialectError> {
        let mut emitted = Emitted::default();
        emitted.text.push_str("{\n");
        for (key, value) in keys {
            emitted.text.push_str(&format!("  \"{key}\": {},\n", spaced(value)));
        }
        emitted.text.push_str("  \"layers\": ");
        emitted.list(nodes, LayerPath::top, Place { depth: 1, indent: 1 })?;
        emitted.text.push_str("\n}\n");
        Ok(emitted)
    }

    fn list(&mut self, nodes: Vec<Node>, path: impl Fn(usize) -> LayerPath, at: Place) -> Result<(), DialectError> {
        let indent = "  ".repeat(at.indent);
        self.text.push('[');
        let mut separator = "\n";
        for (index, node) in nodes.into_iter().enumerate() {
            self.text.push_str(&format!("{separator}{indent}  "));
            separator = ",\n";
            self.node(node, &path(index), Place { depth: at.depth, indent: at.indent.saturating_add(1) }.inside())?;
        }
        if separator == ",\n" {
            self.text.push_str(&format!("\n{indent}"));
        }
        self.text.push(']');
        Ok(())
    }

    fn node(&mut self, node: Node, path: &LayerPath, at: Place) -> Result<(), DialectError> {
        self.layers = self.layers.saturating_add(1);
        // A list of numbers or layers inside is one level more.
        if at.depth.saturating_add(1) >= limits::MAX_CONFIG_DEPTH {
            return Err(DialectError::TooDeep { span: node.span });
        }
        if self.layers > limits::MAX_LAYERS {
            return Err(DialectError::TooManyLayers { span: node.span });
        }
        let start = self.text.len();
        let place = self.origins.len();
        self.origins.push((start..start, node.span));
        self.text.push_str(&format!("{{\"type\": \"{}\"", node.type_name));
        if let Some(name) = &node.name {
            self.text.push_str(&format!(", \"name\": {}", Json::from(name.as_str())));
        }
        for (key, value) in &node.keys {
            self.text.push_str(&format!(", \"{key}\": {}", spaced(value)));
        }
        let inside = at.inside();
        for (key, inner, path) in
            [("filter_gate", node.gate, path.gate()), ("attached_layer", node.attached, path.attached())]
        {
            if let Some(inner) = inner {
                self.text.push_str(&format!(", \"{key}\": "));
                self.node(*inner, &path, inside)?;
            }
        }
        if let Some(branches) = node.branches {
            self.text.push_str(", \"branches\": ");
            self.list(branches, |index| path.branch(index), inside)?;
        }
        self.text.push('}');
        for Weight { role, dims, values } in node.weights {
            self.tensors.push(Tensor { name: format!("{path}.{role}"), dims, values });
        }
        if let Some((range, _)) = self.origins.get_mut(place) {
            range.end = self.text.len();
        }
        Ok(())
    }
}

/// Where a list or an object stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Lists and objects around it.
    depth: usize,
    /// How far its lines are moved in.
    indent: usize,
}

impl Place {
    fn inside(self) -> Place {
        Place { depth: self.depth.saturating_add(1), ..self }
    }
}

/// A value with a space after each comma, as people write it.
fn spaced(value: &Json) -> String {
    match value {
        Json::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(spaced).collect();
            format!("[{}]", elements.join(", "))
        }
        Json::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("\"{key}\": {}", spaced(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

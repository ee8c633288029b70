//! Layers of other layers: parallel, sequential, kmeans.

use super::{Batch, Done, Place, Stop, Translator};
use crate::definition::{Layer, LayerType};
use crate::emit::{Chain, Node};
use crate::error::DialectError;
use crate::translate::layers::shortened;

/// What a parallel layer makes of its branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Concat,
    Add,
    Average,
    GridScatter,
    Filter,
}

impl Mode {
    fn from_name(name: &str) -> Option<Mode> {
        Some(match name {
            "" | "concat" => Mode::Concat,
            "add" => Mode::Add,
            "avg" | "average" => Mode::Average,
            "grid_scatter" => Mode::GridScatter,
            "filter" => Mode::Filter,
            _ => return None,
        })
    }
}

/// What had been said before a layer was tried that then does nothing.
#[derive(Debug, Clone, Copy)]
struct Before {
    notes: usize,
    errors: usize,
}

impl Translator<'_> {
    pub(super) fn parallel(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        let mode = Mode::from_name(layer.text("combine_mode"));
        let Some(mode) = mode else {
            let name = shortened(layer.text("combine_mode"));
            return self.passes_through(layer, place, format!("has the mode `{name}`, which the predecessor has not"));
        };
        if let Some(why) = self.gives_up(layer, mode) {
            return self.passes_through(layer, place, why.to_owned());
        }
        let several = layer.branches.len() > 1;
        if mode == Mode::Concat && several {
            self.mixes(layer, "gives what its branches give one after another, each for the whole batch")?;
        }
        let gate = layer.gate.as_deref().filter(|gate| mode == Mode::Filter && gate.is(LayerType::Dense));
        if gate.is_some() {
            self.mixes(layer, "has a gate that looks at the first sample and weighs the whole batch")?;
        }
        let before = Before { notes: self.notes.len(), errors: self.errors.len() };
        let branches = self.branches(chain, layer)?;
        let lengths: Vec<u64> = branches.iter().map(Chain::elements).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let differ = lengths.iter().any(|&length| length != longest);
        match mode {
            Mode::Add | Mode::Average if differ => {
                self.notes.truncate(before.notes);
                self.errors.truncate(before.errors);
                let why = "has branches of different lengths, which can't be added";
                return self.passes_through(layer, place, why.to_owned());
            }
            Mode::Add => self.elementwise(chain, layer, "add", branches),
            Mode::Average => self.elementwise(chain, layer, "average", branches),
            Mode::Concat => {
                let flat = branches.into_iter().map(flat_node).collect();
                let total = lengths.iter().fold(0, |sum: u64, &length| sum.saturating_add(length));
                self.limited(layer, [vec![total]])?;
                chain.push(Node::parallel("concat", flat, layer.span), vec![total]);
            }
            Mode::GridScatter => self.grid_scatter(chain, layer, branches)?,
            Mode::Filter => {
                if differ {
                    self.mixes(layer, "fills up shorter branches with zeros, for the whole batch")?;
                    self.quirk(layer, "fills up what its shorter branches give with zeros");
                    self.limited(layer, [vec![longest]])?;
                }
                let dims = branches.first().map(|first| first.dims.clone()).unwrap_or_default();
                let alike = branches.iter().all(|branch| branch.dims == dims && !branch.is_feature_map());
                let pad = |branch| if alike { branch } else { padded(branch, longest) };
                let branches = branches.into_iter().map(pad).collect();
                self.filter(chain, layer, gate, branches)?;
            }
        }
        Ok(())
    }

    /// Why the predecessor gives up on a parallel layer, as far as its keys tell.
    fn gives_up(&self, layer: &Layer, mode: Mode) -> Option<&'static str> {
        if layer.branches.is_empty() {
            return Some("has no branches");
        }
        if layer.branches.iter().any(Self::no_branch) {
            return Some("has an embedding or a residual as a branch, which the predecessor can't run");
        }
        let softmax_fails = |branch: &&Layer| branch.is(LayerType::Softmax) && Self::softmax_fails(branch).is_some();
        if layer.branches.iter().any(|branch| softmax_fails(&branch)) {
            return Some("has a softmax as a branch that fails");
        }
        if mode != Mode::GridScatter {
            return None;
        }
        if layer.positions.len() != layer.branches.len() {
            return Some("has not as many positions as branches");
        }
        let grid = ["grid_output_rows", "grid_output_cols", "grid_output_layers"].map(|key| layer.count(key));
        let outside = |cell: &[u64; 3]| cell.iter().zip(grid).any(|(&index, extent)| index >= extent);
        layer.positions.iter().any(|position| outside(&position.cell)).then_some("has a position outside of its grid")
    }

    /// Where the predecessor gives up on a layer, its input is its output.
    fn passes_through(&mut self, layer: &Layer, place: Place, why: String) -> Done {
        if place == Place::Branch {
            let what = "fails as a branch, and what the layer around it makes of that isn't known";
            return Err(self.unclear(layer, what));
        }
        self.quirk(layer, format!("{why}: it gives its input"));
        self.taker.drop_all(layer);
        Ok(())
    }

    fn branches(&mut self, chain: &Chain, layer: &Layer) -> Result<Vec<Chain>, Stop> {
        let mut branches = Vec::new();
        for branch in &layer.branches {
            let mut inner = chain.branch(branch.span);
            self.layer(&mut inner, branch, Place::Branch)?;
            branches.push(inner);
        }
        Ok(branches)
    }

    /// Sum or mean.
    fn elementwise(&mut self, chain: &mut Chain, layer: &Layer, mode: &'static str, branches: Vec<Chain>) {
        let dims = branches.first().map(|first| first.dims.clone()).unwrap_or_default();
        if branches.iter().all(|branch| branch.dims == dims && !branch.is_feature_map()) {
            let nodes = branches.into_iter().map(Chain::into_node).collect();
            chain.push(Node::parallel(mode, nodes, layer.span), dims);
        } else {
            let length = branches.first().map_or(0, Chain::elements);
            let nodes = branches.into_iter().map(flat_node).collect();
            chain.push(Node::parallel(mode, nodes, layer.span), vec![length]);
        }
    }

    /// Sample by sample, in the order of the cells. Of two branches in a cell the later one stays.
    fn grid_scatter(&mut self, chain: &mut Chain, layer: &Layer, branches: Vec<Chain>) -> Done {
        let samples = self.batch.samples();
        let mut cells: Vec<([u64; 3], Chain)> = Vec::new();
        for (position, mut branch) in layer.positions.iter().zip(branches) {
            let total = branch.elements();
            let Some(size) = total.checked_div(samples).filter(|size| size.checked_mul(samples) == Some(total)) else {
                let (path, span) = (layer.path.clone(), layer.type_name.span);
                return Err(self.report(DialectError::NotRows { path, size: samples, found: total, span }));
            };
            branch.view(&self.row_shape(size));
            if let Some(place) = cells.iter().position(|(cell, _)| *cell == position.cell) {
                self.quirk(layer, "has two branches in one cell, of which the later one stays");
                cells.remove(place);
            }
            cells.push((position.cell, branch));
        }
        cells.sort_by_key(|(cell, _)| *cell);
        let size = |chain: &Chain| chain.dims.last().copied().unwrap_or(0);
        let total = cells.iter().fold(0, |sum: u64, (_, branch)| sum.saturating_add(size(branch)));
        self.limited(layer, [self.row_shape(total)])?;
        let nodes = cells.into_iter().map(|(_, branch)| branch.into_node()).collect();
        let node = Node::parallel("concat", nodes, layer.span).with("axis", -1);
        chain.push(node, self.row_shape(total));
        Ok(())
    }

    fn filter(&mut self, chain: &mut Chain, layer: &Layer, gate: Option<&Layer>, branches: Vec<Chain>) -> Done {
        if layer.gate.is_some() && gate.is_none() {
            self.quirk(layer, "has a gate that is no dense layer and has no effect");
        } else if gate.is_none() && self.version.is_some() {
            let message =
                "has no gate: what is saved never holds one, and the predecessor weighs all branches the same";
            self.ambiguity(layer, message);
        }
        let mut node = Node::new("parallel", layer.span).with("combine_mode", "filter");
        let mut gate_node = None;
        if let Some(gate) = gate {
            let experts = branches.len() as u64;
            gate_node = Some(self.gate(chain, gate, experts)?);
            let given = Some(layer.float("filter_temperature")).filter(|&temperature| temperature > 0.0);
            let temperature = given.unwrap_or(1.0);
            let temperature = match layer.text("filter_softmax") {
                // As a softmax layer of that variant without keys.
                "adaptive" | "mixture" | "grid" | "hierarchical" | "masked" | "entmax" => {
                    self.ambiguity(layer, "has a softmax variant for its gate that comes to a plain softmax");
                    1.0
                }
                "gumbel" => {
                    let (path, span) = (layer.path.clone(), layer.type_name.span);
                    let what = "its gate's weights have noise from a generator without a seed";
                    return Err(self.report(DialectError::NotReproducible { path, what, span }));
                }
                "sparse" => {
                    let what = "its gate's weights are a sparsemax that counts each number twice";
                    return Err(self.unclear(layer, what));
                }
                _ => temperature,
            };
            node = node.with_unless(1.0, "filter_temperature", temperature);
        }
        let dims = branches.first().map(|first| first.dims.clone()).unwrap_or_default();
        let nodes = branches.into_iter().map(Chain::into_node).collect();
        chain.push(node.with_gate(gate_node).with_branches(nodes), dims);
        Ok(())
    }

    /// A dense layer over the first numbers of the batch, whose matrix lies as it should, and without its activation.
    fn gate(&mut self, chain: &Chain, gate: &Layer, experts: u64) -> Result<Node, Stop> {
        let (input, output) = self.dense_sizes(gate);
        if input == 0 {
            self.required(gate, &["input_size", "width", "input_height"])?;
        }
        if output != experts {
            return Err(self.unclear(gate, "it gives another number of logits than there are branches"));
        }
        self.limited(gate, [vec![input, output]])?;
        self.quirk(gate, "is read as one row an expert, and its activation is not applied");
        let mut logits = chain.branch(gate.span);
        let found = logits.elements();
        if found < input {
            let (path, span) = (gate.path.clone(), gate.type_name.span);
            return Err(self.report(DialectError::TooShort { path, needed: input, found, span }));
        }
        logits.flat();
        if found > input {
            self.quirk(gate, format!("reads the first {input} of {found} numbers that its layer reads"));
            logits.slice(0, input);
        }
        let weights = self.take(gate, |own| {
            [own.plain("weight", "weight", &[experts, input]), own.plain("bias", "bias", &[experts])]
        });
        let node = Node::new("dense", gate.span).with("input_size", input).with("output_size", experts);
        logits.push(node.with("activation", "linear").with_weights(weights), vec![experts]);
        Ok(logits.into_node())
    }

    /// The branches one after another, of which only dense layers and softmax do anything.
    pub(super) fn sequential(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        let fails = |branch: &&Layer| branch.is(LayerType::Softmax) && Self::softmax_fails(branch).is_some();
        if layer.branches.iter().any(|branch| fails(&branch)) {
            return self.passes_through(layer, place, "has a softmax that fails".to_owned());
        }
        let mut inner = chain.branch(layer.span);
        for branch in &layer.branches {
            match branch.type_name.value {
                LayerType::Dense | LayerType::Stitch | LayerType::Softmax => {
                    self.layer(&mut inner, branch, Place::Branch)?;
                }
                skipped => {
                    let name = skipped.name();
                    self.quirk(branch, format!("is skipped: a sequential layer runs dense and softmax, no {name}"));
                    self.taker.drop_all(branch);
                }
            }
        }
        if !inner.is_empty() {
            let dims = inner.dims.clone();
            chain.push(Node::sequential(inner.into_nodes(), layer.span), dims);
        }
        Ok(())
    }

    /// Soft assignment to centres, of the first sample alone.
    pub(super) fn kmeans(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        self.mixes(layer, "looks at the first sample alone and gives one result")?;
        let clusters = self.required(layer, &["num_clusters"])?;
        let mut features = chain.branch(layer.span);
        if let Batch::Whole(_) = self.batch {
            self.first_sample(&mut features, layer)?;
        }
        let batch = std::mem::replace(&mut self.batch, Batch::Apart { several: false });
        let attached = match layer.attached.as_deref() {
            Some(attached) => self.layer(&mut features, attached, Place::Attached),
            None => Err(self.unclear(layer, "it has no attached layer, and the predecessor's would have no weights")),
        };
        self.batch = batch;
        attached?;
        features.flat();
        let size = features.elements();
        self.limited(layer, [vec![clusters, size]])?;
        match layer.count("cluster_dim") {
            0 => {
                let message = "has no `cluster_dim`: from a config alone the predecessor makes its centres up at random \
                    in the first run; those of the weights are taken";
                self.ambiguity(layer, message);
            }
            given if given != size => {
                let (path, span) = (layer.path.clone(), layer.type_name.span);
                let what =
                    "`cluster_dim` is not the size of its features, so the predecessor makes its centres up at random";
                return Err(self.report(DialectError::NotReproducible { path, what, span }));
            }
            _ => {}
        }
        if !layer.text("distance_metric").is_empty() {
            self.quirk(layer, "ignores its distance metric: the distance is the squared Euclidean one");
        }
        let weights = self.take(layer, |own| [own.plain("cluster_centers", "cluster_centers", &[clusters, size])]);
        let mut node = Node::new("kmeans", layer.span).with("num_clusters", clusters);
        let gives_features = layer.text("kmeans_output_mode") == "features";
        if gives_features {
            node = node.with("kmeans_output_mode", "features");
        }
        let node = node.with_unless(1.0, "kmeans_temperature", layer.float_or("kmeans_temperature", 1.0));
        let node = node.with_weights(weights).with_attached(features.into_node());
        chain.push(node, vec![if gives_features { size } else { clusters }]);
        Ok(())
    }

    /// What the attached layer reads of a whole batch.
    fn first_sample(&mut self, chain: &mut Chain, layer: &Layer) -> Done {
        let sizes = layer.attached.as_deref().filter(|attached| attached.is(LayerType::Dense));
        let Some(size) = sizes.map(|attached| self.dense_sizes(attached).0) else {
            return Err(self.unclear(layer, "its attached layer is no dense one, and reads more than the first sample"));
        };
        chain.flat();
        if size > 0 && size < chain.elements() {
            chain.slice(0, size);
        }
        Ok(())
    }
}

/// A branch whose output is one axis.
fn flat_node(mut branch: Chain) -> Node {
    branch.flat();
    branch.into_node()
}

/// A branch whose output is one axis of this length, with zeros at the end.
fn padded(mut branch: Chain, length: u64) -> Chain {
    branch.flat();
    let missing = length.saturating_sub(branch.elements());
    if missing == 0 {
        return branch;
    }
    let mut zeros = branch.branch(branch.span());
    zeros.slice(0, 1);
    zeros.push_same(Node::scale(0.0, Some(0.0), branch.span()));
    zeros.push(Node::new("broadcast", branch.span()).with("shape", vec![missing]), vec![missing]);
    let values = Node::sequential(Vec::new(), branch.span());
    let node = Node::parallel("concat", vec![values, zeros.into_node()], branch.span());
    branch.push(node, vec![length]);
    branch
}

//! The softmax layer: what each variant really is.

use super::{Batch, Done, Place, Translator, elements};
use crate::definition::Layer;
use crate::emit::{Chain, Node};
use crate::error::DialectError;
use crate::translate::layers::shortened;

/// What the predecessor computes.
#[derive(Debug, Clone, PartialEq)]
enum Distribution {
    Standard { temperature: f64 },
    Grid { rows: u64, cols: u64, temperature: f64 },
    Masked { mask: Vec<bool>, temperature: f64 },
    Uniform,
    Gumbel { temperature: f64 },
    Sparse,
    Blend { alpha: f64 },
}

/// What keeps every softmax from a temperature of its own.
const PLAIN: Distribution = Distribution::Standard { temperature: 1.0 };

impl Translator<'_> {
    /// Why the predecessor's softmax gives up, where it does: in the network's own list it takes a plain one then, in
    /// branches the layer around it gives up too.
    pub(super) fn softmax_fails(layer: &Layer) -> Option<&'static str> {
        match layer.text("softmax_variant") {
            "grid" if layer.count("softmax_rows") == 0 || layer.count("softmax_cols") == 0 => {
                Some("has a grid without rows or columns")
            }
            "hierarchical" if layer.hierarchy_levels.is_empty() => Some("has a hierarchy without levels"),
            "masked" if layer.mask.is_none() => Some("is masked without a mask"),
            _ => None,
        }
    }

    pub(super) fn softmax(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        let total = chain.elements();
        let shape = if place == Place::Branch {
            self.mixes(layer, "is a softmax over the whole batch, as it is in a branch")?;
            vec![total]
        } else {
            let samples = self.batch.samples();
            let Some(size) = total.checked_div(samples).filter(|size| size.checked_mul(samples) == Some(total)) else {
                let (path, span) = (layer.path.clone(), layer.type_name.span);
                return Err(self.report(DialectError::NotRows { path, size: samples, found: total, span }));
            };
            self.row_shape(size)
        };
        let size = shape.last().copied().unwrap_or(1);
        let distribution = self.distribution(layer, size)?;
        if let Distribution::Sparse | Distribution::Blend { .. } = distribution {
            self.limited(layer, [vec![self.batch.samples(), size, size]])?;
        }
        chain.view(&shape);
        let span = layer.span;
        let softmax = |temperature: f64| Node::new("softmax", span).with_unless(1.0, "temperature", temperature);
        match distribution {
            Distribution::Standard { temperature } => chain.push_same(softmax(temperature)),
            Distribution::Grid { rows, cols, temperature } => {
                let node = softmax(temperature).with("softmax_variant", "grid").with("softmax_rows", rows);
                chain.push_same(node.with("softmax_cols", cols).with("axis", -1));
            }
            Distribution::Masked { mask, temperature } => {
                chain.push_same(softmax(temperature).with("softmax_variant", "masked").with("mask", mask));
            }
            Distribution::Uniform => {
                chain.push_same(Node::scale(0.0, None, span));
                chain.push_same(softmax(1.0));
            }
            Distribution::Gumbel { temperature } => {
                chain.push_same(softmax(temperature).with("softmax_variant", "gumbel"));
            }
            Distribution::Sparse => self.sparse(chain, layer),
            Distribution::Blend { alpha } => {
                let mut standard = chain.branch(span);
                standard.push_same(softmax(1.0));
                standard.push_same(Node::scale(2.0 - alpha, None, span));
                let mut sparse = chain.branch(span);
                self.sparse(&mut sparse, layer);
                sparse.push_same(Node::scale(alpha - 1.0, None, span));
                chain.push_same(Node::parallel("add", vec![standard.into_node(), sparse.into_node()], span));
                chain.push_same(Node::new("normalize", span).with("norm", "l1"));
            }
        }
        Ok(())
    }

    /// What a layer's variant comes to for so many numbers.
    fn distribution(&mut self, layer: &Layer, size: u64) -> Result<Distribution, super::Stop> {
        let temperature = layer.float_or("temperature", 1.0);
        let standard = Distribution::Standard { temperature };
        if let Some(why) = Self::softmax_fails(layer) {
            self.quirk(layer, format!("{why}: the predecessor takes a plain softmax"));
            return Ok(PLAIN);
        }
        let variant = layer.text("softmax_variant");
        Ok(match variant {
            "grid" => {
                let (rows, cols) = (layer.count("softmax_rows"), layer.count("softmax_cols"));
                if rows.checked_mul(cols) != Some(size) {
                    return Err(self.unclear(layer, "its grid has not as many cells as there are numbers"));
                }
                Distribution::Grid { rows, cols, temperature }
            }
            "hierarchical" => {
                let last = layer.hierarchy_levels.last().copied().unwrap_or(0);
                if elements(&layer.hierarchy_levels) == Some(size) && last > 0 {
                    self.quirk(layer, "is a hierarchy in name only: a softmax among the children of the last level");
                    Distribution::Grid { rows: size.checked_div(last).unwrap_or(0), cols: last, temperature }
                } else {
                    self.quirk(layer, "has a hierarchy of another size, so it is a plain softmax");
                    standard
                }
            }
            "masked" => match &layer.mask {
                Some(mask) if mask.len() as u64 != size => {
                    self.quirk(layer, "has a mask of another size, so it is a plain softmax");
                    standard
                }
                Some(mask) if !mask.contains(&true) => Distribution::Uniform,
                mask => Distribution::Masked { mask: mask.clone().unwrap_or_default(), temperature },
            },
            "gumbel" => {
                let message = "adds noise from a generator without a seed, which can't be reproduced: the translation's \
                    noise comes from its seed and is the same in every run";
                self.ambiguity(layer, message);
                Distribution::Gumbel { temperature }
            }
            "sparse" => {
                self.quirk(layer, "is no sparsemax: its threshold counts each number twice, and its sum is not 1");
                Distribution::Sparse
            }
            "entmax" => match layer.float("entmax_alpha") {
                alpha if alpha <= 1.0 => {
                    self.quirk(layer, "is an entmax with an alpha of at most 1, which is a plain softmax");
                    PLAIN
                }
                alpha => {
                    let message = "is no entmax: a blend of softmax and the predecessor's sparsemax, whose threshold \
                        counts each number twice";
                    self.quirk(layer, message);
                    if alpha >= 2.0 { Distribution::Sparse } else { Distribution::Blend { alpha } }
                }
            },
            "adaptive" | "mixture" => {
                self.quirk(layer, format!("is a plain softmax, as `{variant}` is not implemented"));
                PLAIN
            }
            "" | "standard" | "temperature" => standard,
            other => {
                let name = shortened(other);
                self.quirk(layer, format!("is a plain softmax, as there is no variant `{name}`"));
                standard
            }
        })
    }

    /// max(0, x - tau) with tau = (2 · Σ - 1) / k, Σ being the sum of the k numbers that sparsemax supports. With w = 1/k
    /// for these and 0 for the others, tau = Σ (2 · w · x) - Σ (w · w), so that the result is the relu of
    /// x + Σ w · (w - 2 · x).
    fn sparse(&mut self, chain: &mut Chain, layer: &Layer) {
        let span = layer.span;
        let input = chain.branch(span);
        let weights = || {
            let mut weights = input.branch(span);
            weights.push_same(Node::new("softmax", span).with("softmax_variant", "sparsemax"));
            // 0 for what is supported (any normal number grows beyond 1), 1 for the rest; then logits of 0 and -10^9.
            weights.push_same(Node::scale(-f64::powi(2.0, 126), Some(1.0), span));
            weights.push_same(Node::new("relu", span));
            weights.push_same(Node::scale(-1e9, None, span));
            weights.push_same(Node::new("softmax", span));
            weights.into_node()
        };
        let difference = vec![weights(), Node::scale(-2.0, None, span)];
        let difference = Node::parallel("add", difference, span);
        let mut sum = input.branch(span);
        sum.push_same(Node::parallel("multiply", vec![weights(), difference], span));
        self.sum_spread(&mut sum, layer);
        let branches = vec![Node::sequential(Vec::new(), span), sum.into_node()];
        chain.push_same(Node::parallel("add", branches, span));
        chain.push_same(Node::new("relu", span));
    }

    /// The sum of each row, in every place of the row.
    fn sum_spread(&mut self, chain: &mut Chain, layer: &Layer) {
        let shape = chain.dims.clone();
        let size = shape.last().copied().unwrap_or(1);
        let (rows, mean) = match self.batch {
            Batch::Whole(samples) if shape.len() == 2 => (samples, vec![samples, 1]),
            _ => (1, vec![1]),
        };
        chain.view(&[rows, size]);
        chain.push(Node::new("global_avg_pool", layer.span), vec![rows]);
        chain.view(&mean);
        chain.push_same(Node::scale(size as f64, None, layer.span));
        chain.push(Node::new("broadcast", layer.span).with("shape", shape.clone()), shape);
    }
}

//! Attention: all rows of the batch as one sequence, heads that are not projected, or nothing at all.

use super::{Done, Place, Translator};
use crate::definition::Layer;
use crate::emit::{Chain, Node};

impl Translator<'_> {
    pub(super) fn attention(&mut self, chain: &mut Chain, layer: &Layer, place: Place) -> Done {
        self.mixes(layer, "takes all rows of the batch as one sequence")?;
        let size = self.required(layer, &["d_model"])?;
        let heads = layer.first_of(&["num_heads"]).unwrap_or(8);
        self.all_rows(chain, layer, size)?;
        let rows = chain.elements().checked_div(size).unwrap_or(0);
        match self.head_dim(layer, size, heads, place) {
            0 => {
                let message = "has no head size, which the predecessor's config reader leaves at 0: it gives zeros (a \
                    program that set the size by code is spelled \"head_dim\")";
                self.ambiguity(layer, message);
                self.taker.drop_all(layer);
                // 0 · x + 0, of finite numbers.
                chain.push_same(Node::scale(0.0, Some(0.0), layer.span));
            }
            head_dim => self.heads(chain, layer, [size, heads, head_dim, rows])?,
        }
        if place == Place::Network {
            self.add_skip(chain, layer);
            self.hand_on(chain);
        }
        Ok(())
    }

    /// Elements of a head; 0 where the predecessor knows of none.
    fn head_dim(&mut self, layer: &Layer, size: u64, heads: u64, place: Place) -> u64 {
        match layer.count("head_dim") {
            0 if self.heads_known(place) => size.checked_div(heads).unwrap_or(0),
            given => given,
        }
    }

    fn heads(&mut self, chain: &mut Chain, layer: &Layer, [size, heads, head_dim, rows]: [u64; 4]) -> Done {
        let kv_heads = layer.first_of(&["num_kv_heads"]).unwrap_or(heads);
        if heads.checked_mul(head_dim) != Some(size) {
            return Err(self.unclear(layer, "its heads do not make up a row"));
        }
        if heads.checked_rem(kv_heads) != Some(0) {
            return Err(self.unclear(layer, "its heads of keys and values do not divide its heads"));
        }
        if head_dim % 2 == 1 {
            return Err(self.unclear(layer, "its heads have an odd size, and their positions are rotated by halves"));
        }
        let kv = kv_heads.saturating_mul(head_dim);
        self.limited(layer, [vec![size, size], vec![rows, rows, heads]])?;
        let base = match self.version {
            // What is saved does not hold it.
            Some(_) => 10_000.0,
            None => layer.float_or("rope_freq_base", 10_000.0),
        };
        if self.version.is_some() && layer.float("rope_freq_base") > 0.0 {
            self.ambiguity(layer, "has a `rope_freq_base`, which the predecessor does not read in a saved model");
        }
        if !(1.0..=loom_ir::numerics::rotary::GREATEST_BASE).contains(&base) {
            return Err(self.unclear(layer, "its `rope_freq_base` is not from 1 to 10^12"));
        }
        self.quirk(layer, "gives its heads side by side: the output projection is thrown away");
        let weights = self.take(layer, |own| {
            [
                own.transposed("q_weight", "q_weight", size, size),
                own.transposed("k_weight", "k_weight", kv, size),
                own.transposed("v_weight", "v_weight", kv, size),
                own.plain("q_bias", "q_bias", &[size]),
                own.plain("k_bias", "k_bias", &[kv]),
                own.plain("v_bias", "v_bias", &[kv]),
            ]
        });
        for role in ["o_weight", "o_bias"] {
            self.taker.drop_one(layer, role);
        }
        chain.view(&[rows, size]);
        let node = Node::new("multi_head_attention", layer.span)
            .with("num_heads", heads)
            .with_unless(heads, "num_kv_heads", kv_heads)
            .with_unless(10_000.0, "rope_freq_base", base)
            .with("output_projection", false);
        chain.push_same(node.with_weights(weights));
        Ok(())
    }
}

//! `--precision`: number formats beside those that a config names.

use loom_ir::config::{CombineMode, Layer, LayerKind, Network, Precision};
use loom_runtime::storage::name_fits;

use crate::failure::Failure;

/// Sets the formats that the rules name. A rule without a pattern is for layers that don't say theirs; the others win over
/// what a layer says.
pub fn apply(network: &mut Network, rules: &[(Option<String>, Precision)]) -> Result<(), Failure> {
    let mut used = vec![false; rules.len()];
    for layer in &mut network.layers {
        set(layer, rules, &mut used);
    }
    for (index, (pattern, precision)) in rules.iter().enumerate() {
        match pattern {
            None => network.precision = *precision,
            Some(pattern) if !used[index] => {
                return Err(Failure::User(format!("--precision: no layer is called `{pattern}`")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn set(layer: &mut Layer, rules: &[(Option<String>, Precision)], used: &mut [bool]) {
    let path = layer.path.to_string();
    let fits = |pattern: &Option<String>| pattern.as_ref().is_some_and(|pattern| name_fits(pattern, &path));
    let mut chosen = None;
    for (index, (pattern, precision)) in rules.iter().enumerate() {
        if fits(pattern) {
            used[index] = true;
            chosen = chosen.or(Some(*precision));
        }
    }
    layer.precision = chosen.or(layer.precision);
    match &mut layer.kind {
        LayerKind::Sequential(sequential) => sequential.layers.iter_mut().for_each(|layer| set(layer, rules, used)),
        LayerKind::Parallel(parallel) => {
            parallel.branches.iter_mut().for_each(|layer| set(layer, rules, used));
            if let CombineMode::Filter(filter) = &mut parallel.mode
                && let Some(gate) = &mut filter.gate
            {
                set(gate, rules, used);
            }
        }
        LayerKind::Kmeans(kmeans) => {
            if let Some(attached) = &mut kmeans.attached {
                set(attached, rules, used);
            }
        }
        _ => {}
    }
}

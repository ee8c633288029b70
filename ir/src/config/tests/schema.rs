//! The tables, against each other and against the parser.

use std::collections::BTreeSet;

use super::{messages, with_layers};
use crate::config::schema::{self, Key, Named};
use crate::config::{ACTIVATIONS, LAYER_KEYS, LAYER_TYPES, NETWORK_KEYS};
use crate::config::{kmeans, parallel, softmax};

/// An object with these fixed pairs, and null for every key that they leave open.
fn all_null(fixed: &[(&str, &str)], keys: &[&[Key]]) -> (String, usize) {
    let open = keys.concat().into_iter().map(|key| key.name).filter(|key| fixed.iter().all(|(name, _)| name != key));
    let open = open.map(|key| format!(r#""{key}": null"#)).collect::<Vec<_>>();
    let count = open.len();
    let fixed = fixed.iter().map(|(key, value)| format!(r#""{key}": {value}"#));
    (format!("{{{}}}", fixed.chain(open).collect::<Vec<_>>().join(", ")), count)
}

/// Every key in the tables is read: null is wrong for each.
#[track_caller]
fn assert_all_read((object, count): (String, usize), wrap: fn(&str) -> String) {
    let messages = messages(&wrap(&object));
    let wrong = messages.iter().filter(|message| message.ends_with("found null")).count();
    assert_eq!((wrong, messages.len()), (count, count), "{object}\n{messages:#?}");
}

#[test]
fn every_layer_key_is_read() {
    let lists = ["sequential", "parallel"];
    for row in LAYER_TYPES.iter().filter(|row| !lists.contains(&row.name)) {
        let fixed = [("type", format!("\"{}\"", row.name))];
        let fixed = fixed.each_ref().map(|(key, value)| (*key, value.as_str()));
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
    for (layer, key) in lists.into_iter().flat_map(|layer| [(layer, "branches"), (layer, "layers")]) {
        let message = format!("`layers.0.{key}`: expected a list of layers, found null");
        assert_eq!(messages(&with_layers(&format!(r#"{{"type": "{layer}", "{key}": null}}"#))), [message]);
    }
}

#[test]
fn every_variant_key_is_read() {
    for row in softmax::VARIANTS {
        let name = format!("\"{}\"", row.name);
        let fixed = [("type", "\"softmax\""), ("softmax_variant", &name)];
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
    for row in parallel::MODES {
        let name = format!("\"{}\"", row.name);
        let branches = r#"[{"type": "flatten"}]"#;
        let fixed = [("type", "\"parallel\""), ("combine_mode", &name), ("branches", branches)];
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
    let position = all_null(&[], &[schema::POSITION_KEYS]);
    let scatter = |object: &str| {
        with_layers(&format!(
            r#"{{"type": "parallel", "branches": [], "combine_mode": "grid_scatter", "grid_output_rows": 1,
            "grid_output_cols": 1, "grid_positions": [{object}]}}"#
        ))
    };
    let messages = messages(&scatter(&position.0));
    let nulls = messages.iter().filter(|message| message.ends_with("found null")).count();
    assert_eq!(nulls, position.1, "{messages:#?}");
}

#[test]
fn every_activation_key_is_read() {
    for row in ACTIVATIONS {
        let name = format!("\"{}\"", row.name);
        let fixed = [("type", "\"dense\""), ("activation", &name), ("output_size", "1")];
        assert_all_read(all_null(&fixed, &[LAYER_KEYS, row.keys]), with_layers);
    }
}

#[test]
fn every_network_key_is_read() {
    let fixed = [("dialect", "\"loom\"")];
    assert_all_read(all_null(&fixed, &[NETWORK_KEYS]), str::to_owned);
    assert_eq!(messages(r#"{"dialect": null}"#), ["`dialect`: expected a string, found null"]);
}

#[test]
fn names_are_unique() {
    let unique = |names: Vec<&str>| {
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    };
    // softmax is both a layer and an activation.
    unique(schema::all_layer_names().filter(|&name| name != "softmax").collect());
    unique(schema::all_activation_names().collect());
    fn spellings<T>(rows: &[Named<T>]) -> Vec<&'static str> {
        rows.iter().flat_map(Named::spellings).collect()
    }
    unique(spellings(softmax::VARIANTS));
    unique(spellings(softmax::GATE_VARIANTS));
    unique(spellings(parallel::MODES));
    unique(spellings(kmeans::OUTPUTS));
    unique(spellings(kmeans::METRICS));
    unique(NETWORK_KEYS.iter().map(|key| key.name).collect());
    for row in LAYER_TYPES {
        unique([LAYER_KEYS, row.keys].concat().iter().map(|key| key.name).collect());
    }
}

#[test]
fn choices_do_not_meet_the_keys_beside_them() {
    for row in LAYER_TYPES.iter().filter(|row| row.keys.contains(&schema::ACTIVATION)) {
        assert!(ACTIVATIONS.iter().flat_map(|activation| activation.keys).all(|key| !row.keys.contains(key)));
    }
}

#[test]
fn the_default_activation_is_in_its_table() {
    assert_eq!(schema::activation_type("relu").map(|row| row.name), Some(schema::RELU.name));
}

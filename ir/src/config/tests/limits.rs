//! Each limit, one below and one above.

use super::{messages, network, with_layers, wrong};
use crate::config::{ConfigError, LayerKind, parse};
use crate::limits;

/// `count` sequential layers, each in the one before.
fn nested(count: usize) -> String {
    format!("{}{}", r#"{"type": "sequential", "branches": ["#.repeat(count), "]}".repeat(count))
}

#[test]
fn nesting() {
    // The network and its list are two levels, each layer two more.
    let most = (limits::MAX_CONFIG_DEPTH - 2) / 2;
    let mut layers = network(&with_layers(&nested(most))).layers;
    for _ in 0..most {
        let LayerKind::Sequential(sequential) = layers.remove(0).kind else { panic!("another layer") };
        layers = sequential.layers;
    }
    assert!(layers.is_empty());

    let expected = "lists and objects are nested more than 64 deep\n  { <- one level too many\n";
    assert_eq!(wrong(&with_layers(&nested(most + 1))), expected);
}

#[test]
fn nesting_a_thousand_deep() {
    for count in [1000, 1_000_000] {
        let message = "lists and objects are nested more than 64 deep";
        assert_eq!(messages(&with_layers(&nested(count))), [message]);
        assert_eq!(messages(&"[".repeat(count)), [message]);
        assert_eq!(messages(&"{\"a\":".repeat(count)), [message]);
    }
}

#[test]
fn brackets_in_strings_do_not_nest() {
    let brackets = r#"[{\"[{\\"#.repeat(100);
    network(&format!(r#"{{"id": "{brackets}", "layers": [{{"type": "flatten"}}]}}"#));
    // Nor do those that are closed.
    let flat = vec![r#"{"type": "flatten"}"#; 100].join(",");
    network(&with_layers(&flat));
}

#[test]
fn bytes_of_a_file() {
    let most = usize::try_from(limits::MAX_CONFIG_BYTES).unwrap();
    let mut source = with_layers(r#"{"type": "flatten"}"#);
    source += &" ".repeat(most - source.len());
    network(&source);
    source.push(' ');
    assert_eq!(wrong(&source), "the file has 67108865 bytes, but a network may have at most 67108864\n");
}

#[test]
fn layers_of_a_network() {
    let layers = |count: usize| vec![r#"{"type":"flatten"}"#; count].join(",");
    assert_eq!(network(&with_layers(&layers(limits::MAX_LAYERS))).layers.len(), limits::MAX_LAYERS);
    assert_eq!(
        wrong(&with_layers(&format!("{},\n{}", layers(limits::MAX_LAYERS), r#"{"type":"relu"},{"type":"nosuch"}"#))),
        "the network has more than 10000 layers\n  {\"type\":\"relu\"} <- the first layer too many\n"
    );
    // Nested ones count.
    let inner = |count| format!(r#"{{"type":"sequential","layers":[{}]}}"#, layers(count));
    network(&with_layers(&inner(limits::MAX_LAYERS - 1)));
    assert_eq!(messages(&with_layers(&inner(limits::MAX_LAYERS))), ["the network has more than 10000 layers"]);
}

#[test]
fn keys_of_an_object() {
    let keys = |count: usize| (0..count).map(|index| format!(r#","k{index}":0"#)).collect::<String>();
    let with_keys = |count| with_layers(&format!(r#"{{"type":"flatten"{}}}"#, keys(count - 1)));
    let unknown = parse(&with_keys(limits::MAX_CONFIG_KEYS)).unwrap_err();
    assert!(unknown.iter().all(|error| matches!(error, ConfigError::UnknownKey { .. })));
    assert_eq!(
        messages(&with_keys(limits::MAX_CONFIG_KEYS + 1)),
        ["`layers.0` has 257 keys, but an object may have at most 256"]
    );
}

#[test]
fn errors_of_a_file() {
    let zeros = |count: usize| with_layers(&vec![r#"{"type":"dense","output_size":0}"#; count].join(","));
    let most = parse(&zeros(limits::MAX_CONFIG_ERRORS)).unwrap_err();
    assert_eq!((most.iter().count(), most.left_out()), (limits::MAX_CONFIG_ERRORS, 0));
    let more = parse(&zeros(limits::MAX_CONFIG_ERRORS + 3)).unwrap_err();
    assert_eq!((more.iter().count(), more.left_out()), (limits::MAX_CONFIG_ERRORS, 3));
    assert_eq!(more.diagnostics().last().unwrap().message, "3 more errors are not shown");
    assert!(more.to_string().ends_with("found 0\n3 more errors are not shown"));
}

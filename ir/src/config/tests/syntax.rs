//! JSON itself: what isn't JSON, keys given twice, and how keys and strings may be spelled.

use super::{messages, network, with_layers, wrong};

#[test]
fn no_text_at_all() {
    let expected = "the file is empty\n  help: the smallest network is {\"layers\": [{\"type\": \"dense\", \
                    \"input_size\": 4, \"output_size\": 2}]}\n";
    assert_eq!(wrong(""), expected);
    assert_eq!(wrong(" \r\n\t\n"), expected);
    network(r#"{"layers": [{"type": "dense", "input_size": 4, "output_size": 2}]}"#);
}

#[test]
fn byte_order_mark() {
    assert_eq!(
        wrong("\u{feff}{\"layers\": []}"),
        "the file starts with a byte order mark\n  \u{feff} <- not part of JSON\n  help: save the file as UTF-8 \
         without a byte order mark\n"
    );
    // Elsewhere it's a character like any other.
    assert_eq!(messages("{\u{feff}}"), ["not valid JSON: key must be a string"]);
}

#[test]
fn not_json() {
    for (source, message, underlined) in [
        ("net", "expected `true`, `false` or `null`", "net"),
        ("{\n  \"layers\": [\n    dense\n  ]\n}", "expected value", "dense"),
        ("{\"a\": nul}", "expected `true`, `false` or `null`", "nul"),
        ("{\"é\": é}", "expected value", "é"),
        ("{\"a\" 1}", "expected `:`", "1"),
        ("{\"a\": 1 \"b\": 2}", "expected `,` or `}`", "\""),
        ("{\"a\": [1 2]}", "expected `,` or `]`", "2"),
        ("{\"a\": 01}", "invalid number", "01"),
        ("{\"a\": 1.}", "invalid number", "1."),
        ("{\"a\": .5}", "expected value", ".5"),
        ("{\"a\": +5}", "expected value", "+5"),
        ("{a: 1}", "key must be a string", "a"),
        ("{\"a\": \"\\x\"}", "invalid escape", "x"),
        ("{\"a\": \"\\\n", "invalid escape", "\n"),
        ("{} {}", "there is more text after the end of the network", "{"),
        ("{}\n}", "there is more text after the end of the network", "}"),
        ("{]", "key must be a string", "]"),
        ("{\"layers\": [", "the file ends inside a list", "["),
        ("{\"layers\": [{\n \n", "the file ends inside an object", "{"),
        ("{\"layers\": \"den", "the file ends inside a string", "den"),
        ("{\"layers\":", "the file ends inside a value", ":"),
    ] {
        assert_eq!(wrong(source), format!("not valid JSON: {message}\n  {underlined} <- here\n"), "in {source:?}");
    }
}

#[test]
fn not_json_with_help() {
    for (source, message, underlined, help) in [
        ("{\"a\": 1,}", "a comma before a closing bracket", "}", "remove the comma"),
        ("{\"a\": [1,\n]}", "a comma before a closing bracket", "]", "remove the comma"),
        ("{ // a\n}", "key must be a string", "/", "JSON has no comments"),
        ("# a", "expected value", "#", "JSON has no comments"),
        ("{'a': 1}", "key must be a string", "'", "JSON writes strings in double quotes"),
        ("{\"a\": True}", "expected value", "True", "JSON writes `true`, `false` and `null`"),
        (
            "{\"a\": \"dense,\n}",
            "a string holds a line break or another control character",
            ",",
            "close the string, or write the character as an escape",
        ),
        ("{\"a\": NaN}", "expected value", "NaN", "JSON has no infinity and no NaN"),
        ("{\"a\": -Infinity}", "invalid number", "-Infinity", "JSON has no infinity and no NaN"),
    ] {
        assert_eq!(
            wrong(source),
            format!("not valid JSON: {message}\n  {underlined} <- here\n  help: {help}\n"),
            "in {source:?}"
        );
    }
}

#[test]
fn lone_surrogates() {
    // They pass a syntax check, and only have no characters.
    for text in [r#"{"layers": [{"type": "\ud800"}]}"#, r#"{"layers": [{"type": "flatten", "\ud800": 1}]}"#] {
        let shown = wrong(text);
        assert!(shown.starts_with("not valid JSON: "), "{shown}");
        assert!(shown.contains("ud800") || shown.contains("\" <- here"), "{shown}");
    }
    assert_eq!(messages(r#"{"layers": [{"type": "flatten", "name": "\udc00"}]}"#).len(), 1);
}

#[test]
fn keys_given_twice() {
    assert_eq!(
        wrong(r#"{"seed": 1, "layers": [{"type": "flatten"}], "seed": 2}"#),
        "`seed` is given twice\n  \"seed\" <- given again\n  \"seed\" <- first given here\n  \
         help: remove one of the two\n"
    );
    // Escapes don't hide a key, and each further one is an error of its own.
    assert_eq!(
        wrong(&with_layers(r#"{"type": "flatten", "typ\u0065": "relu", "\u0074ype": 3}"#)),
        "`layers.0.type` is given twice\n  \"typ\\u0065\" <- given again\n  \"type\" <- first given here\n  \
         help: remove one of the two\n\
         `layers.0.type` is given twice\n  \"\\u0074ype\" <- given again\n  \"type\" <- first given here\n  \
         help: remove one of the two\n"
    );
    // An unknown key is unknown each time.
    assert_eq!(messages(&with_layers(r#"{"type": "flatten", "x": 1, "x": 1}"#)).len(), 3);
}

#[test]
fn escaped_keys_are_keys() {
    let source = r#"{"l\u0061yers": [{"\u0074ype": "d\u0065nse", "output_size": 2, "name": "\u00e9"}]}"#;
    let network = network(source);
    let name = network.layers[0].name.as_ref().unwrap();
    assert_eq!(name.value, "é");
    assert_eq!(&source[name.span.range()], r#""\u00e9""#);
}

#[test]
fn spans_count_bytes() {
    let source = "{\"id\": \"Größe 🧶\",\r\n\"layers\": [ {\"type\": \"flatten\"} , {\"type\" : \"dense\" }]}";
    assert_eq!(
        wrong(source),
        "layers.1 (`dense`) needs `output_size`\n  \"dense\" <- `output_size` is missing\n  \
         help: `output_size` can also be spelled `height` or `output_height`\n"
    );
}

#[test]
fn text_from_the_file_is_made_fit_for_a_terminal() {
    let source = r#"{"layers": [{"type": "flatten", "\u001b[31m\u202e": 1}]}"#;
    assert_eq!(messages(source), [r"layers.0 (`flatten`) has no key `\u{1b}[31m\u{202e}`"]);
    let long = "x".repeat(61);
    assert_eq!(
        messages(&with_layers(&format!(r#"{{"type": "{long}"}}"#))),
        [format!("unknown layer type `{}…`", &long[..60])]
    );
}

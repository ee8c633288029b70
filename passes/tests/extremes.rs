//! Sizes at the edges: every network and every graph compiles or is refused, none makes a pass panic.

use loom_ir::config;
use loom_ir::graph::parse::parse;
use loom_passes::{PipelineOptions, compile, compile_graph};

fn network(text: &str) -> Result<(), String> {
    let network = config::parse(text).map_err(|error| format!("{error:?}"))?;
    compile(&network, &PipelineOptions::default()).map(drop).map_err(|error| error.to_string())
}

fn graph(body: &str) -> Result<(), String> {
    let graph = parse(&format!("graph \"g\" {{\n{body}\n}}")).map_err(|error| error.to_string())?;
    compile_graph(graph, &PipelineOptions::default()).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_stride_beyond_the_only_window_does_not_matter() {
    let text = r#"{"input_shape":[1,4,4096],"layers":[
        {"type":"conv2d","filters":1,"kernel_size":1,"stride":[1073741824,1]}]}"#;
    assert_eq!(network(text), Ok(()));
}

#[test]
fn a_dilation_of_a_single_element_does_not_matter() {
    let text = r#"{"input_shape":[1,4,4096],"layers":[
        {"type":"conv2d","filters":1,"kernel_size":1,"dilation":[1073741824,1]}]}"#;
    assert_eq!(network(text), Ok(()));
}

#[test]
fn padding_beyond_all_tensors_is_refused() {
    let text = r#"{"input_shape":[1,4,4096],"layers":[
        {"type":"conv2d","filters":1,"kernel_size":1,"padding":[536870912,0],"stride":[536870912,1]}]}"#;
    assert!(network(text).unwrap_err().contains("2^31"), "{:?}", network(text));
}

#[test]
fn extents_beside_an_extent_of_zero_are_limited_too() {
    let sliced = "%0 = input \"x\" : f32[0, 70368744177664]
        %1 = slice %0 starts=[0, 35184372088832] ends=[0, 70368744177664] steps=[1, 1] : f32[0, 35184372088832]
        output \"y\" %1";
    assert!(graph(sliced).is_err());
    let moved = "%0 = input \"x\" : f32[0, 1073741824, 1073741824, 1073741824]
        %1 = transpose %0 permutation=[3, 2, 1, 0] : f32[1073741824, 1073741824, 1073741824, 0]
        output \"y\" %1";
    assert!(graph(moved).is_err());
    let small = "%0 = input \"x\" : f32[0, 7]\n%1 = neg %0 : f32[0, 7]\noutput \"y\" %1";
    assert_eq!(graph(small), Ok(()));
}

#[test]
fn steps_of_steps_do_not_overflow() {
    let body = "%0 = input \"x\" : f32[5]
        %1 = slice %0 starts=[0] ends=[1] steps=[2147483647] : f32[1]
        %2 = slice %1 starts=[0] ends=[1] steps=[512] : f32[1]
        %3 = slice %2 starts=[0] ends=[1] steps=[2147483647] : f32[1]
        output \"y\" %3";
    assert_eq!(graph(body), Ok(()));
    // Two elements at the ends of ever larger strides, all of it padding.
    let window =
        "axes=[0] size=[1] stride=[1073741824] dilation=[1] low=[1073741822] high=[1073741822] fill=0x00000000";
    let body = format!(
        "%0 = input \"x\" : f32[2]
        %1 = window %0 {window} : f32[2, 1]
        %2 = reshape %1 shape=[2] : f32[2]
        %3 = window %2 {window} : f32[2, 1]
        %4 = reshape %3 shape=[2] : f32[2]
        %5 = window %4 {window} : f32[2, 1]
        %6 = reshape %5 shape=[2] : f32[2]
        %7 = window %6 {window} : f32[2, 1]
        output \"y\" %7"
    );
    assert_eq!(graph(&body), Ok(()));
}

#[test]
fn constants_are_not_folded_at_any_price() {
    let body = "%0 = constant [0x3f800000] : f32[]
        %1 = broadcast %0 shape=[2147483647] axes=[] : f32[2147483647]
        %2 = reduce %1 op=sum axes=[0] : f32[]
        output \"y\" %2";
    let begin = std::time::Instant::now();
    assert_eq!(graph(body), Ok(()));
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

#[test]
fn a_bool_is_filled_up_with_a_bool() {
    for (fill, legal) in [("0x00000001", true), ("0x00000002", false)] {
        let body = format!(
            "graph \"g\" {{
            %0 = input \"x\" : f32[2]
            %1 = convert %0 to=bool : bool[2]
            %2 = pad %1 low=[1] high=[0] value={fill} : bool[3]
            output \"y\" %2
            }}"
        );
        assert_eq!(parse(&body).is_ok(), legal, "{fill}");
    }
}

#[test]
fn sums_of_integers_fit_32_bits() {
    let dense = |size: u64, keys: &str| {
        network(&format!(
            r#"{{"dtype": "int8", "layers": [{{"type": "dense", "input_size": {size}, "output_size": 2{keys}}}]}}"#
        ))
    };
    assert_eq!(dense(131_071, ""), Ok(()));
    let error = dense(131_072, "").unwrap_err();
    assert!(error.contains("layers.0: sums of 131072 products of integers"), "{error}");
    assert_eq!(dense(131_072, r#", "group_size": 65536"#), Ok(()));
    // A code less a zero point may be 255 in size.
    let affine = r#", "input_scale": 0.5, "input_zero_point": -128"#;
    assert_eq!(dense(65_793, affine), Ok(()));
    let error = dense(65_794, affine).unwrap_err();
    assert!(error.contains("those of at most 65793 do"), "{error}");
    let most = 65_793i64;
    assert!(most * 255 * 128 <= i64::from(i32::MAX) && (most + 1) * 255 * 128 > i64::from(i32::MAX));
    let before = r#"{"dtype": "int8", "input_scale": 0.5, "input_zero_point": 3, "layers": [
        {"type": "dense", "input_size": 65794, "output_size": 2}]}"#;
    assert!(network(before).unwrap_err().contains("65793"));
}

#[test]
fn channels_of_a_convolution_share_scales() {
    let conv = |group_size: u64| {
        network(&format!(
            r#"{{"dtype": "int4", "input_shape": [6, 8, 8], "layers": [
                {{"type": "conv2d", "filters": 2, "kernel_size": 3, "group_size": {group_size}}}]}}"#
        ))
    };
    for group_size in [9, 18, 40, 54, 1 << 40] {
        assert_eq!(conv(group_size), Ok(()));
    }
    let error = conv(8).unwrap_err();
    assert!(error.contains("a `group_size` of 8 is less than the 9 weights of a channel"), "{error}");
}

/// Of 3 inputs in groups of 2, 4 codes are kept: the tensors just fit without the fourth.
#[test]
fn groups_that_are_filled_up_fit_too() {
    let state = r#"{"type": "rnn", "hidden_size": 3, "group_size": 2, "return_sequences": false}"#;
    let dense = |outputs: u64| format!(r#"{{"type": "dense", "output_size": {outputs}, "group_size": 2}}"#);
    let (steps, outputs) = ((1u64 << 31) / 9 - 5, 613_000_000);
    for (batch, input, layer, fits) in [
        (1, "[3]".to_string(), dense(outputs), false),
        (1, "[3]".to_string(), dense(500_000_000), true),
        (600_000_000, "[3]".to_string(), dense(1), false),
        (1, format!("[{steps}, 1]"), state.to_string(), false),
    ] {
        let source =
            format!(r#"{{"dtype": "int8", "batch_size": {batch}, "input_shape": {input}, "layers": [{layer}]}}"#);
        let found = network(&source);
        assert_eq!(found.is_ok(), fits, "{source}: {found:?}");
        assert!(fits || found.is_err_and(|error| error.contains("the groups' codes:")), "{source}");
    }
}

#[test]
fn a_zero_point_needs_its_scale() {
    let source = r#"{"input_zero_point": 3, "layers": [{"type": "dense", "input_size": 4, "output_size": 2}]}"#;
    let error = loom_ir::config::parse(source).unwrap_err().to_string();
    assert!(error.contains("a zero point says nothing without the scale"), "{error}");
}

#[test]
fn integers_are_for_products_with_weights() {
    let alone = |layer: &str, dtype: &str| {
        network(&format!(r#"{{"dtype": "{dtype}", "input_shape": [4, 6], "layers": [{layer}]}}"#))
    };
    for layer in [
        r#"{"type": "relu"DTYPE}"#,
        r#"{"type": "layer_norm"DTYPE}"#,
        r#"{"type": "embedding", "vocab_size": 4, "embedding_dim": 3DTYPE}"#,
        r#"{"type": "flatten"DTYPE}"#,
    ] {
        let error = alone(&layer.replace("DTYPE", r#", "dtype": "int8""#), "float32").unwrap_err();
        assert!(error.contains("can't be int8: dense, conv1d,"), "{error}");
        assert_eq!(alone(&layer.replace("DTYPE", ""), "int8"), Ok(()));
    }
    let inside =
        r#"{"type": "sequential", "dtype": "int4", "layers": [{"type": "relu"}, {"type": "dense", "output_size": 2}]}"#;
    assert_eq!(alone(inside, "float32"), Ok(()));
}

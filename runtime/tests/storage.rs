//! Tensors stored in every number format: converted, quantised, read back, and files that lie about it.

use std::path::Path;

use loom_ir::numerics::formats::{Number, Storage};
use loom_ir::numerics::quantise::Scheme;
use loom_ir::types::Shape;
use loom_runtime::storage::{Conversion, Granularity, StoredFile, convert};
use loom_runtime::tensors::{Entry, FileDType, TensorFile, stream};

/// A tensor to be written: type, extents, bytes.
struct Raw {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<u64>,
    data: Vec<u8>,
}

fn raw(name: &'static str, dtype: &'static str, shape: &[u64], data: Vec<u8>) -> Raw {
    Raw { name, dtype, shape: shape.to_vec(), data }
}

fn floats(name: &'static str, shape: &[u64], values: &[f32]) -> Raw {
    raw(name, "F32", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn bytes_of(tensors: &[Raw], packed: Option<&str>) -> Vec<u8> {
    let shapes: Vec<Shape> = tensors.iter().map(|tensor| Shape::new(tensor.shape.clone())).collect();
    let entries: Vec<Entry<'_>> = tensors
        .iter()
        .zip(&shapes)
        .map(|(tensor, shape)| Entry { name: tensor.name, dtype: FileDType::from_name(tensor.dtype).unwrap(), shape })
        .collect();
    let metadata = packed.map(|json| ("loom.packed".to_string(), json.to_string())).into_iter().collect();
    let mut bytes = Vec::new();
    stream(&mut bytes, &metadata, &entries, &mut |index, out| out.write_all(&tensors[index].data)).unwrap();
    bytes
}

fn file_of(tensors: &[Raw], packed: Option<&str>) -> TensorFile {
    TensorFile::from_bytes(Path::new("file"), bytes_of(tensors, packed)).unwrap()
}

fn to(storage: Storage) -> Conversion {
    Conversion {
        default: Some(storage),
        rules: Vec::new(),
        scaled: true,
        scheme: Scheme::Symmetric,
        granularity: Granularity::Channel,
    }
}

fn converted(file: &TensorFile, conversion: &Conversion) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    convert(&StoredFile::of(file).unwrap(), &path, conversion, &mut |_, _| {})
        .unwrap_or_else(|error| panic!("{error}"));
    std::fs::read(&path).unwrap()
}

fn reopened(bytes: Vec<u8>) -> TensorFile {
    TensorFile::from_bytes(Path::new("file"), bytes).unwrap()
}

fn refused(tensors: &[Raw], conversion: &Conversion) -> String {
    let file = file_of(tensors, None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let error = convert(&StoredFile::of(&file).unwrap(), &path, conversion, &mut |_, _| {}).unwrap_err().to_string();
    assert!(!path.exists(), "nothing is written");
    error
}

fn words(count: usize, seed: u64) -> impl Iterator<Item = u64> {
    (0..count as u64).map(move |index| (index + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23))
}

/// A number of every format becomes that of every other one; integers that don't fit are refused.
#[test]
fn any_format_to_any_other() {
    // Odd, so that half a byte is left over.
    const COUNT: usize = 301;
    for from in Storage::ALL {
        let name = FileDType::of_storage(from).filter(|dtype| dtype.bytes(COUNT as u64).is_some());
        for target in Storage::ALL {
            let mask = u64::MAX >> (64 - from.bits());
            let fits = |bits: &u64| match (from.widen(*bits), target.integer_range()) {
                (Number::Integer(value), Some((least, greatest))) => (least..=greatest).contains(&value),
                _ => true,
            };
            let codes: Vec<u64> =
                words(COUNT * 50, 1).map(|word| word & mask).filter(fits).chain([0; COUNT]).take(COUNT).collect();
            let mut data = Vec::new();
            from.pack(codes.iter().copied(), &mut data);
            let packed = format!(r#"{{"t": {{"dtype": "{from}", "shape": [7, 43]}}}}"#);
            let file = match name {
                Some(dtype) => file_of(&[raw("t", dtype.name(), &[7, 43], data)], None),
                None => file_of(&[raw("t", "U8", &[data.len() as u64], data)], Some(&packed)),
            };
            let unscaled = Conversion { scaled: false, ..to(target) };
            let result = reopened(converted(&file, &unscaled));
            let stored = StoredFile::of(&result).unwrap();
            let tensor = stored.get("t").unwrap();
            assert_eq!((tensor.storage, tensor.shape.dims()), (Some(target), [7, 43].as_slice()), "{from} to {target}");
            for (index, &code) in codes.iter().enumerate() {
                let expected = if from == target { code } else { target.narrow(from.widen(code)) };
                assert_eq!(tensor.code(index), expected, "{from} {code:x} to {target}");
            }
        }
    }
}

/// The scales and codes of a model in binary64 that was written for this test alone.
#[test]
fn quantised_numbers_are_those_of_the_definition() {
    let (rows, columns) = (5, 12);
    let values: Vec<f32> =
        words(rows * columns, 9).map(|word| (word as i32 as f32) * 1e-9 * (word % 7) as f32).collect();
    let file = file_of(&[floats("w", &[rows as u64, columns as u64], &values), floats("b", &[2], &[0.1, 0.2])], None);
    for target in Storage::ALL.into_iter().filter(|target| target.float().is_none() || target.bits() <= 8) {
        for scheme in [Scheme::Symmetric, Scheme::Affine] {
            for (granularity, size, scale_shape) in [
                (Granularity::Tensor, rows * columns, vec![]),
                (Granularity::Channel, columns, vec![5]),
                (Granularity::Group(4), 4, vec![5, 3]),
            ] {
                let conversion = Conversion { scheme, granularity, ..to(target) };
                let result = reopened(converted(&file, &conversion));
                let stored = StoredFile::of(&result).unwrap();
                assert_eq!(stored.tensors().count(), 2, "scales are no tensors of their own");
                assert_eq!(stored.get("b").unwrap().storage, Some(Storage::F32), "a bias stays");
                let tensor = stored.get("w").unwrap();
                assert_eq!(tensor.scale_shape().unwrap().dims(), scale_shape);
                let affine = target.float().is_none() && (scheme == Scheme::Affine || !target.is_signed());
                assert_eq!(result.info("w.zero_point").is_some(), affine);
                for (group, values) in values.chunks(size).enumerate() {
                    let least = values.iter().fold(0.0f64, |least, &value| least.min(value.into()));
                    let greatest = values.iter().fold(0.0f64, |greatest, &value| greatest.max(value.into()));
                    let magnitude = greatest.max(-least);
                    let bits = target.bits() as i32;
                    let (first, last) = if target.is_signed() {
                        (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0)
                    } else {
                        (0.0, 2f64.powi(bits) - 1.0)
                    };
                    let scale = match (target, affine) {
                        (Storage::F8, _) => magnitude / 448.0,
                        (Storage::F4, _) => magnitude / 6.0,
                        (_, true) => (greatest - least) / (last - first),
                        (_, false) => magnitude / last,
                    } as f32;
                    let step = f64::from(scale);
                    let zero =
                        if affine { (first + (-least / step).round_ties_even()).clamp(first, last) } else { 0.0 };
                    for (within, &value) in values.iter().enumerate() {
                        let Number::Float(found) = tensor.number(group * size + within) else { panic!("a float") };
                        let quotient = f64::from(value) / step;
                        let place = (target, scheme, granularity, group * size + within);
                        if target.float().is_some() {
                            let Number::Float(code) = target.widen(target.narrow(Number::Float(quotient))) else {
                                panic!()
                            };
                            assert_eq!(found as f32, code as f32 * scale, "{place:?}");
                        } else if bits <= 16 {
                            // Sums of integers that binary64 holds.
                            let low = if affine { first } else { -last };
                            let code = (quotient.round_ties_even() + zero).clamp(low, last);
                            assert_eq!(found as f32, (code - zero) as f32 * scale, "{place:?}");
                        } else {
                            assert!((found - f64::from(value)).abs() <= 1e-6 * magnitude, "{place:?} {found} {value}");
                        }
                    }
                }
            }
        }
    }
}

/// Converted, converted back and left alone: the numbers stay, and the bytes too.
#[test]
fn what_is_not_converted_stays_as_it_is() {
    let values: Vec<f32> = words(63, 3).map(|word| word as i16 as f32 * 0.01).collect();
    let file = file_of(&[floats("a", &[9, 7], &values), floats("c", &[9, 7], &values)], None);
    for target in Storage::ALL {
        for granularity in [Granularity::Tensor, Granularity::Channel, Granularity::Group(2)] {
            let once = converted(&file, &Conversion { granularity, ..to(target) });
            assert!(once == converted(&file, &Conversion { granularity, ..to(target) }), "the same bytes each time");
            let stored_file = reopened(once.clone());
            let nothing = Conversion { default: None, ..to(target) };
            assert!(converted(&stored_file, &nothing) == once, "{target} {granularity:?}");
            let rule = Conversion { default: None, rules: vec![("c".to_string(), Storage::F32)], ..to(target) };
            let mixed = reopened(converted(&stored_file, &rule));
            let (stored, mixed) = (StoredFile::of(&stored_file).unwrap(), StoredFile::of(&mixed).unwrap());
            assert_eq!(mixed.get("c").unwrap().storage, Some(Storage::F32));
            assert!(!mixed.get("c").unwrap().is_quantised());
            for index in 0..63 {
                assert_eq!(mixed.get("a").unwrap().number(index), stored.get("a").unwrap().number(index), "{target}");
                if target != Storage::F64 {
                    assert_eq!(
                        mixed.get("c").unwrap().number(index),
                        stored.get("c").unwrap().number(index),
                        "{target}"
                    );
                }
            }
        }
    }
}

#[test]
fn numbers_without_a_scale_are_refused() {
    let rule = |pattern: &str, storage| Conversion {
        default: None,
        rules: vec![(pattern.to_string(), storage)],
        ..to(storage)
    };
    let nan = [floats("w", &[2, 2], &[1.0, 2.0, f32::NAN, 0.0])];
    assert_eq!(refused(&nan, &to(Storage::I8)), "file: tensor `w`: element 2 is NaN: only finite numbers have a scale");
    let infinite = [floats("w", &[2, 2], &[1.0, f32::NEG_INFINITY, 0.0, 0.0])];
    assert!(refused(&infinite, &to(Storage::F4)).contains("element 1 is -inf"));
    let large = [raw("n", "I32", &[2], [5i32, -129].iter().flat_map(|value| value.to_le_bytes()).collect())];
    assert_eq!(refused(&large, &to(Storage::I8)), "file: tensor `n`: element 1 is -129, i8 has -128 to 127");
    assert!(refused(&large, &to(Storage::U64)).contains("u64 has 0 to 18446744073709551615"));
    assert_eq!(refused(&large, &rule("x*", Storage::I8)), "file: no tensor is called `x*`");
    let flags = [raw("f", "BOOL", &[2], vec![0, 1])];
    assert_eq!(
        refused(&flags, &rule("f", Storage::F16)),
        "file: tensor `f` is bool: it has no numbers that could become f16"
    );
    let named = [floats("w", &[1, 1], &[1.0]), floats("w.scale", &[1], &[1.0])];
    assert_eq!(refused(&named, &to(Storage::I8)), "file: `w.scale` would be taken for the scales of the new `w`");
    let named = [floats("w", &[1, 1], &[1.0]), raw("w.zero_point", "I8", &[], vec![0])];
    assert!(
        refused(&named, &Conversion { scaled: false, ..to(Storage::I8) }).contains("`w.zero_point` would be taken")
    );
}

#[test]
fn companions_that_lie_are_refused() {
    let w = || raw("w", "I8", &[2, 3], vec![1; 6]);
    let wrong =
        |tensors: &[Raw], packed: Option<&str>| StoredFile::of(&file_of(tensors, packed)).unwrap_err().to_string();
    for (value, shown) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let text = wrong(&[floats("w.scale", &[2], &[1.0, value]), w()], None);
        assert_eq!(text, format!("file: `w.scale`: scale 1 is {shown}: a scale is finite and more than 0"));
    }
    let text = wrong(&[floats("w.scale", &[3], &[1.0; 3]), w()], None);
    assert!(text.starts_with("file: `w.scale` f32 [3] beside [2, 3] does not belong to `w`: a scale is of"), "{text}");
    assert!(wrong(&[floats("w.scale", &[2, 5], &[1.0; 10]), w()], None).contains("does not belong"));
    let half = raw("w.scale", "F16", &[2], vec![0; 4]);
    assert!(wrong(&[half, w()], None).contains("scales are f32"));
    let points =
        |dtype, shape: &[u64], data| [floats("w.scale", &[2], &[1.0; 2]), raw("w.zero_point", dtype, shape, data), w()];
    assert!(wrong(&points("I8", &[3], vec![0; 3]), None).contains("one zero point for each scale"));
    assert!(wrong(&points("F32", &[2], vec![0; 8]), None).contains("zero points are integers"));

    let codes = || [raw("t", "U8", &[3], vec![0x21, 0x43, 0x05])];
    let of = |dtype: &str, shape: &str| format!(r#"{{"t": {{"dtype": "{dtype}", "shape": {shape}}}}}"#);
    let file = file_of(&codes(), Some(&of("i4", "[5]")));
    let stored = StoredFile::of(&file).unwrap();
    let found: Vec<u64> = (0..5).map(|index| stored.get("t").unwrap().code(index)).collect();
    assert_eq!(found, [1, 2, 3, 4, 5]);
    for (dtype, shape) in [("i4", "[4]"), ("i4", "[7]"), ("i8", "[3]"), ("x", "[5]"), ("i4", "[5, 1, 2]")] {
        assert!(wrong(&codes(), Some(&of(dtype, shape))).contains("which is not the file's tensor"), "{dtype} {shape}");
    }
    assert!(wrong(&codes(), Some(&of("i4", "[4294967295, 4294967295]"))).contains("2^31"));
    assert!(wrong(&codes(), Some("[]")).contains("metadata `loom.packed`"));
    assert!(wrong(&codes(), Some(r#"{"u": {"dtype": "i4", "shape": [6]}}"#)).contains("there is no tensor `u`"));
    // A tensor of floats has no scale, whatever lies beside it.
    let floats_beside = file_of(&[floats("w", &[2], &[1.0; 2]), floats("w.scale", &[2], &[0.0; 2])], None);
    assert_eq!(StoredFile::of(&floats_beside).unwrap().tensors().count(), 2);
}

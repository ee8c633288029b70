//! Safetensors files: those that lie, those that don't, and what is written.

mod common;

use std::fs;
use std::path::Path;

use common::tensor;
use loom_ir::types::{DType, Shape};
use loom_runtime::tensors::{Tensor, TensorError, TensorFile, write_atomically, write_tensors};
use proptest::prelude::*;

/// A file from a header's JSON and its data.
fn file(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

fn open(bytes: Vec<u8>) -> Result<TensorFile, TensorError> {
    TensorFile::from_bytes(Path::new("test.safetensors"), bytes)
}

#[track_caller]
fn refused(bytes: Vec<u8>) -> String {
    match open(bytes) {
        Ok(file) => panic!("accepted: {:?}", file.tensors().collect::<Vec<_>>()),
        Err(error) => error.to_string().replace("test.safetensors: ", ""),
    }
}

#[test]
fn truncated_and_lying_files() {
    assert_eq!(refused(vec![1, 2, 3]), "not a safetensors file: 3 bytes, the header's length alone takes 8");
    assert_eq!(
        refused(u64::MAX.to_le_bytes().to_vec()),
        "not a safetensors file: it claims a header of 18446744073709551615 bytes, the limit is 100000000"
    );
    assert_eq!(
        refused(100u64.to_le_bytes().to_vec()),
        "the file ends within its header: 8 bytes, of which the header claims 100"
    );
    assert_eq!(
        refused(file("[]", &[])),
        "the header is wrong: invalid type: sequence, expected an object of tensors at line 1 column 0"
    );
    assert!(refused(file("{\"a\":", &[])).starts_with("the header is wrong: EOF"));
    assert!(refused(file(&"[".repeat(200), &[])).starts_with("the header is wrong"));
    let deep = format!("{{\"__metadata__\":{}", "[".repeat(10_000));
    assert!(refused(file(&deep, &[])).starts_with("the header is wrong"));
    let nested = format!("{{\"a\":{{\"dtype\":\"F32\",\"x\":{}", "[".repeat(10_000));
    assert!(refused(file(&nested, &[])).starts_with("the header is wrong"));

    let one = |shape: &str, offsets: &str, dtype: &str| {
        format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    assert_eq!(refused(file(&one("[2]", "[0,8]", "F33"), &[0; 8])), "tensor `a`: there is no element type `F33`");
    assert_eq!(
        refused(file(&one("[2]", "[0,7]", "F32"), &[0; 7])),
        "tensor `a`: f32 [2] takes 8 bytes, the file gives it 7"
    );
    assert_eq!(
        refused(file(&one("[2]", "[8,0]", "F32"), &[0; 8])),
        "tensor `a`: it should begin at byte 0 of the data, but begins at 8"
    );
    assert_eq!(
        refused(file(&one("[2]", "[4,12]", "F32"), &[0; 12])),
        "tensor `a`: it should begin at byte 0 of the data, but begins at 4"
    );
    assert_eq!(
        refused(file(&one("[2]", "[0,8]", "F32"), &[0; 5])),
        "the tensors take 8 bytes, the file holds 5 after the header"
    );
    assert_eq!(
        refused(file(&one("[2]", "[0,8]", "F32"), &[0; 9])),
        "the tensors take 8 bytes, the file holds 9 after the header"
    );
    assert_eq!(
        refused(file(&one("[4294967296,4294967296]", "[0,0]", "F32"), &[])),
        "tensor `a`: a tensor has fewer than 2^31 elements, [4294967296, 4294967296] has more"
    );
    assert_eq!(
        refused(file(&one("[1,1,1,1,1,1,1,1,1]", "[0,4]", "F32"), &[0; 4])),
        "tensor `a`: a tensor has at most 8 axes, this one has 9"
    );
    // No elements, but extents whose product overflows on the way.
    let huge = refused(file(&one("[18446744073709551615,18446744073709551615,0]", "[0,0]", "F32"), &[]));
    assert!(huge.starts_with("tensor `a`: a tensor has fewer than 2^31 elements"), "{huge}");
    assert!(open(file(&one("[2147483647,0]", "[0,0]", "F32"), &[])).is_ok());
    assert!(refused(file(&one("[-1]", "[0,4]", "F32"), &[0; 4])).starts_with("the header is wrong: invalid value"));
    assert!(refused(file(&one("[1]", "[0,18446744073709551616]", "F32"), &[0; 4])).starts_with("the header is wrong"));
    let entry = "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
    assert!(
        refused(file(&format!("{{\"a\":{entry},\"a\":{entry}}}"), &[0; 4]))
            .starts_with("the header is wrong: `a` stands twice")
    );
    assert!(refused(file("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", &[])).contains("`k` twice"));
    assert!(refused(file(&format!("{{\"a\":{entry},\"b\":{entry}}}"), &[0; 4])).contains("should begin at byte 4"));
    // Half a byte.
    assert!(refused(file(&one("[3]", "[0,1]", "F4"), &[0; 1])).starts_with("tensor `a`: f4 [3] takes"));
}

/// Eight tensors of nearly 2^61 bytes: their sum, the header and the length overflow 64 bits.
#[test]
fn sums_of_sizes_do_not_overflow() {
    let size = u64::MAX / 8;
    let entries: Vec<String> = (0..8)
        .map(|i| {
            format!(
                "\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[{},{}]}}",
                i * size,
                (i + 1) * size
            )
        })
        .collect();
    assert!(refused(file(&format!("{{{}}}", entries.join(",")), &[])).contains("fewer than 2^31 elements"));
}

#[test]
fn tensors_that_are_not_there_or_not_of_the_type() {
    let json = "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[4,6]}}";
    let file = open(file(json, &[0, 0, 0, 0, 1, 2])).unwrap();
    let text = |name: &str| file.tensor(name).unwrap_err().to_string();
    assert_eq!(text("c"), "test.safetensors: there is no tensor `c`, the file holds `a`, `b`");
    assert_eq!(text("a"), "test.safetensors: tensor `a` is f16, needed is f32 or i32 or u32 or bool");
    assert_eq!(text("b"), "test.safetensors: tensor `b`: element 1 is a bool stored as 2");
}

#[test]
fn misaligned_data_is_copied() {
    for pad in 0..4 {
        let json = format!("{{\"a\":{{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}}}{}", " ".repeat(pad));
        let file = open(file(&json, &[1, 0, 0, 0, 255, 255, 255, 255])).unwrap();
        assert_eq!(file.tensor("a").unwrap().bits(), [1, u32::MAX]);
    }
}

#[test]
fn labels_of_every_width() {
    let json = "{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[8,10]}}";
    let file = open(file(json, &[254, 255, 255, 255, 255, 255, 255, 255, 7, 200])).unwrap();
    assert_eq!(file.integers("a").unwrap(), [-2]);
    assert_eq!(file.integers("b").unwrap(), [7, 200]);
}

#[test]
fn files_that_are_no_files() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(TensorFile::open(folder.path()), Err(TensorError::NotAFile { .. })));
    assert!(matches!(TensorFile::open(&folder.path().join("none")), Err(TensorError::Open { .. })));
    let empty = folder.path().join("empty");
    fs::write(&empty, []).unwrap();
    assert!(matches!(TensorFile::open(&empty), Err(TensorError::TooShort { bytes: 0, .. })));
}

#[test]
fn written_files_are_read_back_and_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let flags = Tensor::new("flags", DType::Bool, Shape::from([3]), vec![1, 0, 1]).unwrap();
    let tensors = [
        flags,
        tensor("z", [2, 2], &[1.0, -0.0, f32::INFINITY, 4.0]),
        tensor("a", [], &[7.0]),
        tensor("none", [0, 5], &[]),
    ];
    write_tensors(&path, &tensors).unwrap();
    let bytes = fs::read(&path).unwrap();
    write_tensors(&path, &tensors).unwrap();
    assert_eq!(bytes, fs::read(&path).unwrap());
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!((length + 8) % 64, 0);

    let file = TensorFile::open(&path).unwrap();
    for tensor in &tensors {
        assert_eq!(&file.tensor(tensor.name()).unwrap(), tensor);
    }
    assert!(file.tensor("z").unwrap().is_mapped());
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("z").unwrap().shape(), [2, 2]);
    assert_eq!(theirs.tensor("flags").unwrap().data(), [1, 0, 1]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    fs::write(&path, "before").unwrap();
    let failing = |file: &mut dyn std::io::Write| {
        file.write_all(&[0; 1 << 21])?;
        Err(std::io::Error::other("the disk is full"))
    };
    let error = write_atomically(&path, failing).unwrap_err();
    assert!(error.to_string().ends_with("can't be written: the disk is full"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");

    let nowhere = folder.path().join("no/such/folder/out.safetensors");
    assert!(matches!(write_tensors(&nowhere, &[]), Err(TensorError::Write { .. })));
    assert!(matches!(write_tensors(folder.path(), &[]), Err(TensorError::Write { .. })));
}

#[cfg(unix)]
#[test]
fn devices_are_not_replaced_and_links_are_followed() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let folder = tempfile::tempdir().unwrap();
    write_tensors(Path::new("/dev/null"), &[]).unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "before").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    write_tensors(&link, &[]).unwrap();
    assert!(link.is_symlink());
    assert_ne!(fs::read(&file).unwrap(), b"before");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o077, 0o666 & !umask() & 0o077, "the mode of any new file");
}

#[cfg(unix)]
fn umask() -> u32 {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    fs::write(&path, []).unwrap();
    0o666 & !fs::metadata(path).unwrap().mode()
}

fn sample() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    write_tensors(&path, &[tensor("a", [2, 3], &[1.0; 6]), tensor("b", [1], &[2.0])]).unwrap();
    fs::read(path).unwrap()
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = open(bytes);
    }

    #[test]
    fn no_header_panics(json in "[\\[\\]{}\",:0-9a-z_ F32]{0,120}", data in proptest::collection::vec(any::<u8>(), 0..20)) {
        let _ = open(file(&json, &data));
    }

    /// Whatever is accepted here, the format's own library accepts too, and gives the same data.
    #[test]
    fn changed_files_never_panic(at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<Option<prop::sample::Index>>()) {
        let mut bytes = sample();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(file) = open(bytes.clone()) {
            let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            for (name, _) in file.tensors() {
                assert_eq!(theirs.tensor(name).unwrap().data(), file.data(name).unwrap());
                let _ = file.tensor(name);
                let _ = file.integers(name);
            }
        }
    }
}

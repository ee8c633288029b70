use half::{bf16, f16};

use super::*;

fn f64_of(storage: Storage, bits: u64) -> f64 {
    match storage.widen(bits) {
        Number::Float(value) => value,
        Number::Integer(value) => panic!("{storage} {bits:x} is the integer {value}"),
    }
}

fn narrow(storage: Storage, value: f64) -> u64 {
    storage.narrow(Number::Float(value))
}

/// The value of a format's bits, from the definition.
fn by_definition(exponent_bits: i32, mantissa_bits: i32, bits: u64) -> f64 {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let mantissa = (bits & ((1 << mantissa_bits) - 1)) as f64;
    let exponent = (bits >> mantissa_bits & ((1 << exponent_bits) - 1)) as i32;
    let sign = if bits >> (exponent_bits + mantissa_bits) & 1 == 1 { -1.0 } else { 1.0 };
    let step = 2f64.powi(exponent.max(1) - bias - mantissa_bits);
    let implied = if exponent == 0 { 0.0 } else { 2f64.powi(mantissa_bits) };
    sign * (implied + mantissa) * step
}

#[test]
fn small_formats_widen_by_their_definition() {
    for bits in 0..256 {
        let found = f64_of(Storage::F8, bits);
        if bits & 0x7F == 0x7F {
            assert_eq!(found.to_bits(), 0x7FF8_0000_0000_0000);
        } else {
            assert_eq!(found.to_bits(), by_definition(4, 3, bits).to_bits(), "f8 {bits:02x}");
        }
    }
    let values: Vec<f64> = (0..8).map(|bits| f64_of(Storage::F4, bits)).collect();
    assert_eq!(values, [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    assert!((8..16).all(|bits| f64_of(Storage::F4, bits).to_bits() == (-values[bits as usize - 8]).to_bits()));
    assert_eq!((Storage::F8.greatest(), Storage::F4.greatest(), Storage::F16.greatest()), (448.0, 6.0, 65504.0));
}

/// Another crate's reading of the formats, over all bits.
#[test]
fn halves_widen_as_those_of_the_crate_half() {
    for bits in 0..=u16::MAX {
        for (storage, expected) in
            [(Storage::F16, f16::from_bits(bits).to_f64()), (Storage::Bf16, bf16::from_bits(bits).to_f64())]
        {
            let found = f64_of(storage, bits.into());
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{storage} {bits:04x}"
            );
        }
    }
}

/// Around every number of a format and every tie between neighbours there is nothing left to try.
#[test]
fn floats_narrow_to_the_nearest() {
    for storage in [Storage::F16, Storage::Bf16, Storage::F8, Storage::F4] {
        let format = storage.float().unwrap();
        let sign = 1u64 << (storage.bits() - 1);
        let numbers: Vec<(u64, f64)> = (0..sign)
            .map(|bits| (bits, format.widen(bits)))
            .take_while(|&(_, value)| value <= format.greatest())
            .collect();
        for pair in numbers.windows(2) {
            let [(low_bits, low), (high_bits, high)] = [pair[0], pair[1]];
            let tie = low + (high - low) / 2.0;
            let even = if low_bits % 2 == 0 { low_bits } else { high_bits };
            for (value, expected) in [
                (low, low_bits),
                (low.next_up(), low_bits),
                (tie.next_down(), low_bits),
                (tie, even),
                (tie.next_up(), high_bits),
                (high.next_down(), high_bits),
                (high, high_bits),
            ] {
                assert_eq!(narrow(storage, value), expected, "{storage} {value:e}");
                assert_eq!(narrow(storage, -value), expected | sign, "{storage} {:e}", -value);
            }
        }
        // Halfway from the greatest number to the one that would follow it.
        let (last, before) = (numbers[numbers.len() - 1], numbers[numbers.len() - 2]);
        let end = last.1 + (last.1 - before.1) / 2.0;
        let too_large = if matches!(storage, Storage::F16 | Storage::Bf16) { last.0 + 1 } else { last.0 };
        // The greatest number of f8 is even in its last place, so the tie stays below; of the others the tie goes up.
        for (value, expected) in [
            (end.next_down(), last.0),
            (end, if last.0 % 2 == 0 { last.0 } else { too_large }),
            (end.next_up(), too_large),
            (f64::MAX, too_large),
            (f64::INFINITY, too_large),
        ] {
            assert_eq!(narrow(storage, value), expected, "{storage} {value:e}");
            assert_eq!(narrow(storage, -value), expected | sign, "{storage} {value:e}");
        }
        let nan = [(Storage::F16, 0x7E00), (Storage::Bf16, 0x7FC0), (Storage::F8, 0x7F), (Storage::F4, 0)];
        let expected = nan.into_iter().find(|&(of, _)| of == storage).unwrap().1;
        assert_eq!((narrow(storage, f64::NAN), narrow(storage, -f64::NAN)), (expected, expected));
    }
}

#[test]
fn wide_floats_are_the_processors() {
    let mut word = 1u64;
    for _ in 0..200_000 {
        word = word.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        for bits in
            [word, word >> 4, word & 0x000F_FFFF_FFFF_FFFF, word & 0xB80F_FFFF_FFFF_FFFF | 0x3800_0000_0000_0000]
        {
            let value = f64::from_bits(bits);
            if value.is_nan() {
                continue;
            }
            assert_eq!(narrow(Storage::F64, value), bits);
            assert_eq!(f64_of(Storage::F64, bits).to_bits(), bits);
            assert_eq!(narrow(Storage::F32, value), u64::from((value as f32).to_bits()), "{value:e}");
            let single = f32::from_bits(bits as u32);
            if !single.is_nan() {
                assert_eq!(f64_of(Storage::F32, bits).to_bits(), f64::from(single).to_bits());
                assert_eq!(
                    narrow(Storage::F16, single.into()),
                    u64::from(f16::from_f32(single).to_bits()),
                    "{single:e}"
                );
                assert_eq!(
                    narrow(Storage::Bf16, single.into()),
                    u64::from(bf16::from_f32(single).to_bits()),
                    "{single:e}"
                );
            }
            let integers: [(Storage, i128); 6] = [
                (Storage::I64, (value as i64).into()),
                (Storage::U64, (value as u64).into()),
                (Storage::I32, (value as i32).into()),
                (Storage::U16, (value as u16).into()),
                (Storage::I8, (value as i8).into()),
                (Storage::I4, (value as i8).clamp(-8, 7).into()),
            ];
            for (storage, expected) in integers {
                assert_eq!(storage.widen(narrow(storage, value)), Number::Integer(expected), "{storage} of {value:e}");
            }
            let integer = Number::Integer((bits as i64).into());
            assert_eq!(Storage::F32.narrow(integer), u64::from((bits as i64 as f32).to_bits()));
            assert_eq!(Storage::F64.narrow(integer), (bits as i64 as f64).to_bits());
            assert_eq!(Storage::F32.narrow(Number::Integer(bits.into())), u64::from((bits as f32).to_bits()));
            assert_eq!(Storage::I16.widen(Storage::I16.narrow(integer)), Number::Integer((bits as i16).into()));
        }
    }
    assert_eq!(narrow(Storage::I8, f64::NAN), 0);
    assert_eq!(Storage::I64.widen(narrow(Storage::I64, f64::NEG_INFINITY)), Number::Integer(i64::MIN.into()));
}

#[test]
fn every_element_comes_back() {
    for storage in Storage::ALL {
        let mask = u64::MAX >> (64 - storage.bits());
        let words: Vec<u64> =
            (0..771u64).map(|index| index.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17) & mask).collect();
        let mut bytes = Vec::new();
        storage.pack(words.iter().copied(), &mut bytes);
        assert_eq!(bytes.len() as u64, storage.bytes(771).unwrap());
        let read: Vec<u64> = (0..771).map(|index| storage.read(&bytes, index)).collect();
        assert_eq!(read, words, "{storage}");
        assert_eq!(storage.read(&bytes, 10_000), 0);
        for &word in &words {
            let number = storage.widen(word);
            let is_nan = matches!(number, Number::Float(value) if value.is_nan());
            assert!(is_nan || storage.narrow(number) == word, "{storage} {word:x} {number:?}");
        }
        assert_eq!(Storage::from_name(storage.name()), Some(storage));
    }
    let names = ["float16", "bfloat16", "int4", "uint8", "half", "float", "f8_e4m3", "int5", "f", ""];
    let found = names.map(|name| Storage::from_name(name).map(Storage::name));
    let expected =
        [Some("f16"), Some("bf16"), Some("i4"), Some("u8"), Some("f16"), Some("f32"), Some("f8"), None, None, None];
    assert_eq!(found, expected);
}

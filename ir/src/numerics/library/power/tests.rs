use super::BINS;
use crate::eval::scalar::binary;
use crate::kernel::scalar::BinaryOp;
use crate::types::DType;

fn pow(x: f32, y: f32) -> f32 {
    f32::from_bits(binary(BinaryOp::Pow, DType::F32, x.to_bits(), y.to_bits()))
}

#[track_caller]
fn check(x: f32, y: f32, want: f32) {
    let got = pow(x, y);
    let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
    assert!(same, "pow({x:e}, {y:e}) = {got:e}, not {want:e}");
}

const INFINITY: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const TINY: f32 = f32::from_bits(1);
const BELOW_ONE: f32 = f32::from_bits(0x3f7f_ffff);
const ABOVE_ONE: f32 = f32::from_bits(0x3f80_0001);

const ODD: [f32; 6] = [1.0, 3.0, 5.0, 8_388_607.0, 8_388_609.0, 16_777_215.0];
const EVEN: [f32; 6] = [2.0, 4.0, 8_388_608.0, 16_777_214.0, 16_777_216.0, f32::MAX];
const FRACTIONS: [f32; 8] = [TINY, f32::MIN_POSITIVE, 0.5, BELOW_ONE, ABOVE_ONE, 1.5, 2.5, 4_194_303.5];
/// Finite sizes of bases other than 0 and 1.
const SIZES: [f32; 8] = [TINY, f32::MIN_POSITIVE, 0.5, BELOW_ONE, ABOVE_ONE, 2.0, 3.0, f32::MAX];

/// What Annex F of C23 says of pow, line by line.
#[test]
fn special_cases_are_those_of_annex_f() {
    for y in ODD {
        check(0.0, -y, INFINITY);
        check(-0.0, -y, -INFINITY);
        check(0.0, y, 0.0);
        check(-0.0, y, -0.0);
        check(-INFINITY, -y, -0.0);
        check(-INFINITY, y, -INFINITY);
        check(-1.0, y, -1.0);
        check(-1.0, -y, -1.0);
    }
    for y in EVEN.into_iter().chain(FRACTIONS) {
        for zero in [0.0, -0.0] {
            check(zero, -y, INFINITY);
            check(zero, y, 0.0);
        }
        check(-INFINITY, -y, 0.0);
        check(-INFINITY, y, INFINITY);
    }
    for y in EVEN {
        check(-1.0, y, 1.0);
        check(-1.0, -y, 1.0);
    }
    for y in ODD.into_iter().chain(EVEN).chain(FRACTIONS).chain([INFINITY]) {
        check(INFINITY, -y, 0.0);
        check(INFINITY, y, INFINITY);
    }
    for zero in [0.0, -0.0] {
        check(zero, -INFINITY, INFINITY);
        check(zero, INFINITY, 0.0);
        for x in SIZES.into_iter().chain([0.0, 1.0, INFINITY, NAN]) {
            check(x, zero, 1.0);
            check(-x, zero, 1.0);
        }
    }
    check(-1.0, INFINITY, 1.0);
    check(-1.0, -INFINITY, 1.0);
    check(-INFINITY, INFINITY, INFINITY);
    check(-INFINITY, -INFINITY, 0.0);
    for y in ODD.into_iter().chain(EVEN).chain(FRACTIONS).chain([INFINITY, NAN]) {
        check(1.0, y, 1.0);
        check(1.0, -y, 1.0);
    }
    for x in SIZES {
        for y in FRACTIONS {
            check(-x, y, NAN);
            check(-x, -y, NAN);
        }
        let (up, down) = if x > 1.0 { (INFINITY, 0.0) } else { (0.0, INFINITY) };
        for x in [x, -x] {
            check(x, INFINITY, up);
            check(x, -INFINITY, down);
        }
    }
    for x in SIZES.into_iter().chain([0.0, INFINITY, NAN]) {
        check(x, NAN, NAN);
        check(-x, NAN, NAN);
    }
    check(-1.0, NAN, NAN);
    for y in ODD.into_iter().chain(EVEN).chain(FRACTIONS).chain([INFINITY]) {
        check(NAN, y, NAN);
        check(NAN, -y, NAN);
    }
}

#[test]
fn nan_is_nan_whatever_its_payload() {
    for payload in (0..23).map(|bit| 1_u32 << bit).chain([0x7f_ffff, 0x2a_aaaa, 0x55_5555]) {
        for sign in [0, 0x8000_0000] {
            let nan = f32::from_bits(0x7f80_0000 | payload | sign);
            check(nan, 2.0, NAN);
            check(2.0, nan, NAN);
            check(nan, nan, NAN);
            check(0.0, nan, NAN);
            check(INFINITY, nan, NAN);
            check(nan, 0.0, 1.0);
            check(1.0, nan, 1.0);
        }
    }
}

fn power_of_two(n: i32) -> f32 {
    f32::from_bits(if n < -126 { 1 << (n + 149) } else { ((n + 127) as u32) << 23 })
}

/// A result that is a float is that float.
#[test]
fn exact_powers_are_exact() {
    for n in -149..=127 {
        check(2.0, n as f32, power_of_two(n));
        check(-2.0, n as f32, if n % 2 == 0 { power_of_two(n) } else { -power_of_two(n) });
        for quarters in -64..=64 {
            let result = n * quarters / 4;
            if n * quarters % 4 == 0 && (-149..=127).contains(&result) {
                check(power_of_two(n), quarters as f32 * 0.25, power_of_two(result));
            }
        }
    }
    for base in 1..=4096_u32 {
        let x = base as f32;
        check(x, 1.0, x);
        check(x * x, 0.5, x);
        check(x, 2.0, x * x);
        check(-x, 2.0, x * x);
        let mut power = u64::from(base);
        for n in 2..=24 {
            power = power.saturating_mul(u64::from(base));
            if power < 1 << 24 {
                check(x, n as f32, power as f32);
                check(-x, n as f32, if n % 2 == 0 { power as f32 } else { -(power as f32) });
            }
        }
    }
}

/// `loom-ulp pow` tries far more; this is its guard in everyday tests.
#[test]
fn at_most_one_step_from_correctly_rounded() {
    let check = |x: f32, y: f32| {
        let (got, want) = (pow(x, y), core_math::powf(x, y));
        let close = got.is_nan() && want.is_nan()
            || got.is_sign_negative() == want.is_sign_negative() && got.to_bits().abs_diff(want.to_bits()) <= 1;
        assert!(close, "pow({x:e}, {y:e}) = {got:e}, not {want:e}");
    };
    // A base anywhere, and one whose mantissa is next to where the program's ranges of mantissas meet.
    let bounds = BINS.iter().map(|bin| bin.from.to_bits()).chain([(2.0 * BINS[0].from).to_bits()]);
    let bounds = bounds.flat_map(|bound| (-2..=2).map(move |step| bound.wrapping_add_signed(step)));
    let near_one = (0..24).flat_map(|bit| [0x3f80_0000 + (1 << bit), 0x3f80_0000 - (1 << bit)]);
    let sample = (0x0000_0001..0x7f80_0000_u32).step_by(6_700_417);
    for x in bounds.chain(near_one).chain(sample).map(f32::from_bits) {
        let logarithm = f64::from(x).log2();
        // Results from below the smallest number to above the largest, denser at both ends and next to 1.
        let middle = (-31..27).map(|k| f64::from(k) * 4.937);
        let ends = [128.0, -126.0, -149.0, -150.0, 0.0];
        let edges = ends.into_iter().flat_map(|end| (-7..=7).map(move |k| end + f64::from(k) * 1.37e-3));
        for result in middle.chain(edges) {
            check(x, (result / logarithm) as f32);
        }
        for y in [1.0 / 3.0, 0.25, 1.5, 2.5, 3.0, 5.0, 7.0, 10.0] {
            check(x, y);
            check(x, -y);
            check(-x, y);
        }
    }
}

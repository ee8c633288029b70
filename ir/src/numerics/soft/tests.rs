use super::*;
use crate::eval::scalar::{binary, compare, convert, evaluate, unary};
use crate::kernel::scalar::{binary_accepts, unary_type};

/// xorshift: the tests' own fixed sequence.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u32) -> u32 {
        self.next() % bound
    }
}

/// A legal program and what it is tested against.
struct Check {
    operation: Operation,
    program: ScalarFn,
    values: Vec<u32>,
}

impl Check {
    fn new(operation: Operation) -> Check {
        let program = operation.program().unwrap_or_else(|| panic!("`{operation}` has no program"));
        Check { operation, program: legalise(program), values: Vec::new() }
    }

    /// Whether it is one of the library, which is long and only has to be put together rightly.
    fn is_library(&self) -> bool {
        match self.operation {
            Operation::Unary(op) => op.is_library(),
            Operation::Binary(op) => op.is_library(),
            _ => false,
        }
    }

    /// What the processor makes of it.
    fn native(&self, args: [u32; 2]) -> u32 {
        match self.operation {
            Operation::Unary(op) => unary(op, DType::F32, args[0]),
            Operation::Binary(op) => binary(op, DType::F32, args[0], args[1]),
            Operation::Compare(op) => u32::from(compare(op, DType::F32, args[0], args[1])),
            Operation::To(ty) => convert(DType::F32, ty, args[0]),
            Operation::From(ty) => convert(ty, DType::F32, args[0]),
        }
    }

    #[track_caller]
    fn pair(&mut self, a: u32, b: u32) {
        let arguments = [a, b];
        let got = evaluate(&self.program, &arguments[..self.program.params.len()], &mut self.values);
        let want = self.native(arguments);
        let float = !matches!(self.operation, Operation::Compare(_) | Operation::To(_));
        let both_nan = float && f32::from_bits(got).is_nan() && f32::from_bits(want).is_nan();
        assert!(got == want || both_nan, "{} of {a:08x}, {b:08x}: {got:08x}, not {want:08x}", self.operation);
    }

    #[track_caller]
    fn one(&mut self, a: u32) {
        self.pair(a, 0);
    }
}

fn binaries() -> Vec<Check> {
    let operations = BinaryOp::ALL.iter().filter(|&&op| binary_accepts(op, DType::F32));
    let compares = CompareOp::ALL.iter().map(|&op| Operation::Compare(op));
    operations.map(|&op| Operation::Binary(op)).chain(compares).map(Check::new).collect()
}

fn unaries() -> Vec<Check> {
    let operations = UnaryOp::ALL.iter().filter(|&&op| unary_type(op, DType::F32) == Some(DType::F32));
    let converts = [DType::I32, DType::U32, DType::Bool].map(Operation::To);
    operations.map(|&op| Operation::Unary(op)).chain(converts).map(Check::new).collect()
}

/// The arithmetic in which each pair of exponents has cases of its own.
fn arithmetic() -> Vec<Check> {
    [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div].map(|op| Check::new(Operation::Binary(op))).into()
}

fn specials() -> Vec<u32> {
    let mut positive = vec![0, 1, 2, 3, 0x40_0000, 0x7f_fffe, 0x7f_ffff];
    for power in [1, 2, 24, 25, 126, 127, 128, 149, 150, 151, 157, 158, 159, 253, 254u32] {
        let bits = power << 23;
        positive.extend([bits - 1, bits, bits + 1, bits | 0x2a_aaaa, bits | 0x40_0000, bits | 0x7f_ffff]);
    }
    positive.extend([0x7f80_0000, 0x7f80_0001, 0x7fc0_0000, 0x7fff_ffff]);
    positive.into_iter().flat_map(|bits| [bits, bits | SIGN]).collect()
}

#[test]
fn every_operation_on_all_pairs_of_special_values() {
    let specials = specials();
    for mut check in binaries() {
        let step = if check.is_library() { 7 } else { 1 };
        for &a in specials.iter().step_by(step) {
            for &b in specials.iter().step_by(step) {
                check.pair(a, b);
            }
        }
    }
}

#[test]
fn every_pair_of_signs_and_exponents() {
    let mut random = Sequence(0x9e37_79b9_7f4a_7c15);
    for mut check in arithmetic() {
        for a in 0..512u32 {
            for b in 0..512u32 {
                let (a, b) = (a << 23, b << 23);
                // Powers of two, all ones, and anything.
                check.pair(a, b | 0x7f_ffff);
                check.pair(a | 0x7f_ffff, b | random.below(4));
                check.pair(a | random.next() & 0x7f_ffff, b | random.next() & 0x7f_ffff);
            }
        }
    }
}

#[test]
fn sums_round_where_it_is_hardest() {
    let mut random = Sequence(0x2545_f491_4f6c_dd1d);
    for mut check in arithmetic().into_iter().take(2) {
        for distance in 0..40u32 {
            for _ in 0..400 {
                // The smaller operand's bits end around half of the larger one's last place.
                let exponent = 1 + random.below(254);
                let (large, small) = (exponent, exponent.saturating_sub(distance));
                let low = random.below(24);
                let near = (1u32 << low).wrapping_add(random.below(3)).wrapping_sub(1) & 0x7f_ffff;
                let far = (0x7f_ffffu32 << low & 0x7f_ffff).wrapping_add(random.below(3)).wrapping_sub(1) & 0x7f_ffff;
                let mantissa =
                    if random.below(2) == 0 { random.next() & 0x7f_ffff } else { 0x7f_ffff - random.below(2) };
                let sign = random.next() & SIGN;
                for fraction in [near, far] {
                    let (a, b) = (large << 23 | mantissa | sign, small << 23 | fraction);
                    check.pair(a, b);
                    check.pair(b, a);
                }
            }
        }
        // Differences of neighbours, at every scale.
        for exponent in 0..255u32 {
            for mantissa in [0, 1, 2, 0x40_0000, 0x7f_fffe, 0x7f_ffff, random.next() & 0x7f_ffff] {
                let a = exponent << 23 | mantissa;
                for step in [0, 1, 2, 3, 1 << 10, 1 << 22] {
                    check.pair(a, a.wrapping_add(step) & MAGNITUDE);
                    check.pair(a | SIGN, a.wrapping_add(step) & MAGNITUDE);
                }
            }
        }
    }
}

#[test]
fn products_round_where_it_is_hardest() {
    // Products of few bits: exact, ties and one off them, where normal numbers end and far below.
    let mut random = Sequence(0x0123_4567_89ab_cdef);
    let mut check = Check::new(Operation::Binary(BinaryOp::Mul));
    for _ in 0..200_000 {
        let (a_bits, b_bits) = (1 + random.below(24), 1 + random.below(24));
        let a = (random.next() | SIGN) >> (32 - a_bits) | 1;
        let b = (random.next() | SIGN) >> (32 - b_bits) | 1;
        let a = (a as f32).to_bits() + random.below(3) - 1;
        let b = (b as f32).to_bits() + random.below(3) - 1;
        // Exponents that bring the product near 1, next to the subnormals, among them, or past the largest.
        let (a_down, b_down) = [(0, 0), (100, 60), (110, 60), (120, 64)][random.below(4) as usize];
        check.pair(a.saturating_sub(a_down << 23), b.saturating_sub(b_down << 23));
        check.pair(a + (a_down << 23), b + (b_down.min(100) << 23));
        // Subnormal operands.
        check.pair(random.next() >> (9 + random.below(23)), b + (random.below(100) << 23));
    }
}

#[test]
fn quotients_round_where_it_is_hardest() {
    // Around the midpoints of normal and subnormal quotients: a is about (q + half a unit) * d.
    let mut random = Sequence(0x1357_9bdf_0246_8ace);
    let mut check = Check::new(Operation::Binary(BinaryOp::Div));
    for _ in 0..100_000 {
        let d = (random.next() & 0x7f_ffff) | 0x80_0000;
        let bits = 1 + random.below(24);
        let q = u64::from((random.next() | SIGN) >> (32 - bits)) * 2 + 1;
        let product = q * u64::from(d);
        let shift = (64 - product.leading_zeros()).saturating_sub(24);
        let a = ((product >> shift) as u32).wrapping_add(random.below(3)).wrapping_sub(1);
        let (a, d) = ((a as f32).to_bits(), (d as f32).to_bits());
        check.pair(a, d);
        check.pair(a - (random.below(150) << 23), d + (random.below(100) << 23));
        check.pair(a + (random.below(100) << 23), d - (random.below(140) << 23));
    }
}

#[test]
fn square_roots_and_integers() {
    let mut random = Sequence(0x1234_5678_9abc_def1);
    for mut check in unaries() {
        specials().into_iter().for_each(|x| check.one(x));
        for exponent in 0..512u32 {
            for step in 0..3u32 {
                check.one((exponent << 23).wrapping_add(step).wrapping_sub(1));
            }
        }
        for _ in 0..if check.is_library() { 300 } else { 100_000 } {
            check.one(random.next());
            // Of moderate size with few bits of fraction: ties among them.
            check.one(((random.next() as i32 >> random.below(31)) as f32 * 0.5).to_bits());
            // Squares, the squares of midpoints, and their neighbours.
            let root = f64::from((random.next() & 0x7f_ffff) | 0x80_0000) + 0.5 * f64::from(random.below(2));
            let square = (root * root * f64::powi(2.0, random.below(200) as i32 - 130)) as f32;
            check.one(square.to_bits().wrapping_add(random.below(3)).wrapping_sub(1));
        }
    }
}

#[test]
fn relations_of_near_and_far_values() {
    let mut random = Sequence(0xfeed_beef_1234_5678);
    for mut check in binaries() {
        for _ in 0..if check.is_library() { 300 } else { 20_000 } {
            let a = random.next();
            check.pair(a, random.next());
            check.pair(a, a);
            check.pair(a, a ^ SIGN);
            check.pair(a, a.wrapping_add(random.below(3)).wrapping_sub(1));
        }
    }
}

#[test]
fn conversions_of_integers() {
    let mut random = Sequence(0x0f0f_1e1e_2d2d_3c3c);
    for ty in [DType::I32, DType::U32] {
        let mut check = Check::new(Operation::From(ty));
        check.one(0);
        for shift in 0..32 {
            for _ in 0..2000 {
                check.one(random.next() >> shift);
            }
            // Ties and their neighbours, above and below.
            for low in 0..9 {
                let tie = (1u32 << shift).wrapping_add((1 << shift) >> low);
                for bits in [tie.wrapping_sub(1), tie, tie.wrapping_add(1)] {
                    check.one(bits);
                    check.one(bits.wrapping_neg());
                }
            }
        }
    }
    let mut check = Check::new(Operation::From(DType::Bool));
    check.one(0);
    check.one(1);
}

#[test]
fn legal_functions_have_no_floats() {
    // Every kind of instruction, bit casts and choices of floats between them.
    let mut b = ScalarFnBuilder::new();
    let (x, n, flag) = (b.param(DType::F32), b.param(DType::I32), b.param(DType::Bool));
    let mut value = b.convert(DType::F32, n);
    let of_flag = b.convert(DType::F32, flag);
    value = b.add(value, of_flag);
    for &op in BinaryOp::ALL.iter().filter(|&&op| binary_accepts(op, DType::F32)) {
        value = b.binary(op, value, x);
    }
    for &op in CompareOp::ALL {
        let holds = b.compare(op, value, x);
        value = b.select(holds, value, x);
    }
    for &op in UnaryOp::ALL.iter().filter(|&&op| unary_type(op, DType::F32).is_some()) {
        value = b.unary(op, value);
    }
    let same = b.convert(DType::F32, value);
    let bits = b.bitcast(DType::U32, same);
    let float = b.bitcast(DType::F32, bits);
    let constant = b.f32(1.5);
    let sum = b.sub(float, constant);
    let test = b.convert(DType::Bool, sum);
    let [whole, unsigned] = [DType::I32, DType::U32].map(|ty| b.convert(ty, sum));
    let unsigned = b.bitcast(DType::I32, unsigned);
    let signed = b.bitcast(DType::I32, sum);
    let [whole, unsigned] = [(whole, signed), (unsigned, whole)].map(|(a, c)| b.binary(BinaryOp::Xor, a, c));
    let result = b.select(test, whole, unsigned);
    let function = b.finish(result);

    let legal = legalise(&function);
    assert_eq!(legal.params, [DType::U32, DType::I32, DType::Bool]);
    let types = legal.types().unwrap_or_else(|error| panic!("{error}"));
    assert!(!types.contains(&DType::F32));
    let named = |inst: &Inst| matches!(inst, Inst::Bitcast(DType::F32, _) | Inst::Convert(DType::F32, _));
    assert!(!legal.insts.iter().any(named));

    let mut random = Sequence(77);
    let mut values = Vec::new();
    for _ in 0..300 {
        let args = [random.next(), random.next(), random.below(2)];
        let want = evaluate(&function, &args, &mut values);
        assert_eq!(evaluate(&legal, &args, &mut values), want, "{args:08x?}");
    }
}

/// What the documentation says of their length.
#[test]
fn programs_are_short() {
    let size = |operation: Operation| {
        let program = legalise(operation.program().unwrap_or_else(|| panic!("`{operation}` has no program")));
        let free = |inst: &&Inst| matches!(inst, Inst::Const(..) | Inst::Bitcast(..));
        program.insts.len() - program.insts.iter().filter(free).count()
    };
    let sizes = [
        (Operation::Binary(BinaryOp::Add), 50),
        (Operation::Binary(BinaryOp::Sub), 51),
        (Operation::Binary(BinaryOp::Mul), 56),
        (Operation::Binary(BinaryOp::Div), 76),
        (Operation::Unary(UnaryOp::Sqrt), 43),
    ];
    assert_eq!(sizes.map(|(operation, _)| (operation, size(operation))), sizes);
}

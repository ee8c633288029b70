//! Loop nests as CLIF.
//!
//! One file a kernel kind, over the shared pieces: control flow here, loads and stores in [`access`], scalar functions
//! in [`scalar`], the order of sums in [`sum`], calls of wide functions, which take the place of the innermost loops, in
//! [`wide`].

pub(crate) mod access;
pub(crate) mod attend;
pub(crate) mod bytes;
pub(crate) mod contract;
pub(crate) mod epilogue;
pub(crate) mod gather;
pub(crate) mod map;
pub(crate) mod micro;
pub(crate) mod pack;
pub(crate) mod reduce;
pub(crate) mod rows;
pub(crate) mod scalar;
pub(crate) mod sum;
pub(crate) mod wide;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    BlockArg, ExtFuncData, ExternalName, FuncRef, InstBuilder, MemFlagsData, SigRef, UserExternalName, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use loom_ir::kernel::Kernel;

/// A function being written.
///
/// Index arithmetic is in `I64`, which verified accesses can't overflow.
pub(crate) struct Gen<'a> {
    pub b: FunctionBuilder<'a>,
    /// The address of each buffer in the kernel's table.
    pub buffers: Vec<Value>,
    /// Where the module's wide functions are.
    pub wide: wide::WideFunctions,
}

impl Gen<'_> {
    /// A function of the module, by its position there.
    pub(crate) fn import(&mut self, unit: usize, signature: SigRef, colocated: bool) -> FuncRef {
        let name = UserExternalName { namespace: 0, index: unit as u32 };
        let name = ExternalName::user(self.b.func.declare_imported_user_function(name));
        self.b.import_function(ExtFuncData { name, signature, colocated, patchable: false })
    }

    pub(crate) fn index(&mut self, value: u64) -> Value {
        self.b.ins().iconst(types::I64, value as i64)
    }

    /// A loop over `begin..end` by whole steps; what is left of the range does not run. `body` gets the index and the
    /// carried values, and gives the next carried ones. Gives the first index not run, and the carried values.
    pub(crate) fn count_up(
        &mut self,
        (begin, end): (Value, Value),
        step: u64,
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> (Value, Vec<Value>) {
        let begin_and = |first: Value, rest: &[Value]| -> Vec<BlockArg> {
            std::iter::once(first).chain(rest.iter().copied()).map(BlockArg::from).collect()
        };
        let (header, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.append_block_param(header, types::I64);
        for &value in carried {
            let ty = self.b.func.dfg.value_type(value);
            self.b.append_block_param(header, ty);
        }
        // Only whole steps run: the last index is end - step.
        let last = self.b.ins().iadd_imm_s(end, -((step - 1) as i64));
        self.b.ins().jump(header, &begin_and(begin, carried));
        self.b.switch_to_block(header);
        let params = self.b.block_params(header).to_vec();
        let (index, values) = (params[0], params[1..].to_vec());
        // Signed, since `last` may be negative.
        let more = self.b.ins().icmp(IntCC::SignedLessThan, index, last);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.seal_block(inside);
        self.b.seal_block(exit);
        self.b.switch_to_block(inside);
        let next = body(self, index, &values);
        let step = self.b.ins().iadd_imm_u(index, step as i64);
        self.b.ins().jump(header, &begin_and(step, &next));
        self.b.seal_block(header);
        self.b.switch_to_block(exit);
        (index, values)
    }

    /// A loop over all of `0..end`, without carried values.
    pub(crate) fn count_to(&mut self, end: Value, step: u64, body: impl FnOnce(&mut Self, Value)) {
        let zero = self.index(0);
        self.count_up((zero, end), step, &[], |g, index, _| {
            body(g, index);
            Vec::new()
        });
    }

    /// A loop over all of `begin..end` by steps, the last of which may reach beyond the end.
    pub(crate) fn count_all(&mut self, (begin, end): (Value, Value), step: u64, body: impl FnOnce(&mut Self, Value)) {
        self.walk(begin, end, |g, index| {
            body(g, index);
            g.b.ins().iadd_imm_u(index, step as i64)
        });
    }

    /// A loop whose body says where it goes on: from `begin` while below `end`.
    pub(crate) fn walk(&mut self, begin: Value, end: Value, body: impl FnOnce(&mut Self, Value) -> Value) {
        let (header, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let index = self.b.append_block_param(header, types::I64);
        self.b.ins().jump(header, &[begin.into()]);
        self.b.switch_to_block(header);
        let more = self.b.ins().icmp(IntCC::UnsignedLessThan, index, end);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.seal_block(inside);
        self.b.seal_block(exit);
        self.b.switch_to_block(inside);
        let next = body(self, index);
        self.b.ins().jump(header, &[next.into()]);
        self.b.seal_block(header);
        self.b.switch_to_block(exit);
    }

    /// A branch whose sides give values of the same types.
    pub(crate) fn branch(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self) -> Vec<Value>,
        otherwise: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        let (yes, no, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.seal_block(yes);
        self.b.seal_block(no);
        self.b.switch_to_block(yes);
        let values = then(self);
        for &value in &values {
            let ty = self.b.func.dfg.value_type(value);
            self.b.append_block_param(join, ty);
        }
        let args: Vec<BlockArg> = values.into_iter().map(BlockArg::from).collect();
        self.b.ins().jump(join, &args);
        self.b.switch_to_block(no);
        let args: Vec<BlockArg> = otherwise(self).into_iter().map(BlockArg::from).collect();
        self.b.ins().jump(join, &args);
        self.b.seal_block(join);
        self.b.switch_to_block(join);
        self.b.block_params(join).to_vec()
    }

    /// The index over `extents` with this row-major number.
    pub(crate) fn decode(&mut self, number: Value, extents: &[u64]) -> Vec<Value> {
        let mut index = vec![number; extents.len()];
        let mut rest = number;
        for axis in (1..extents.len()).rev() {
            let extent = self.index(extents[axis].max(1));
            index[axis] = self.b.ins().urem(rest, extent);
            rest = self.b.ins().udiv(rest, extent);
        }
        if let Some(first) = index.first_mut() {
            *first = rest;
        }
        index
    }

    /// The index that follows in row-major order. After the last one comes an index out of range, never used.
    pub(crate) fn advance(&mut self, index: &[Value], extents: &[u64]) -> Vec<Value> {
        let mut next = index.to_vec();
        let Some(last) = extents.len().checked_sub(1) else { return next };
        next[last] = self.b.ins().iadd_imm_u(index[last], 1);
        for axis in (1..extents.len()).rev() {
            let wrapped = self.b.ins().icmp_imm_u(IntCC::Equal, next[axis], extents[axis] as i64);
            let zero = self.index(0);
            next[axis] = self.b.ins().select(wrapped, zero, next[axis]);
            let carry = self.b.ins().uextend(types::I64, wrapped);
            next[axis - 1] = self.b.ins().iadd(index[axis - 1], carry);
        }
        next
    }

    /// `base + number · bytes`.
    pub(crate) fn element(&mut self, base: Value, number: Value, bytes: u64) -> Value {
        let offset = if bytes.is_power_of_two() {
            self.b.ins().ishl_imm_u(number, i64::from(bytes.trailing_zeros()))
        } else {
            self.b.ins().imul_imm_u(number, bytes as i64)
        };
        self.b.ins().iadd(base, offset)
    }

    /// The smaller of two indices.
    pub(crate) fn least(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().umin(a, b)
    }
}

/// About how many nanoseconds a function of this cost takes for so many elements side by side: 64 scalar operations in one.
pub(crate) fn nanoseconds(elements: u64, cost: u64) -> u64 {
    elements.saturating_mul(cost) / 64
}

/// How many indices a kernel's loop has; 1 for a kernel of no loop.
pub(crate) fn slices(kernel: &Kernel) -> u64 {
    kernel.in_loop.and(kernel.axes.first().copied()).unwrap_or(1)
}

/// Memory that is there (verified), but aligned to 4 bytes only, whatever is loaded.
pub(crate) fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

//! The functions that an object exports, as CLIF: they know where everything lies and call the kernels in order.

use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, Signature, StackSlotData, StackSlotKind, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::Module as _;
use cranelift_object::ObjectModule;
use loom_ir::kernel::{BufferKind, Program, Step};
use loom_ir::limits::MAX_KERNEL_BUFFERS;

use super::Data;
use super::environment::Exchange;
use super::places::{Flat, Places};
use crate::abi::{KernelLayout, PackTime};
use crate::emit::{Gen, flags};
use crate::functions::{self, Module, Unit, Visibility};

pub(super) struct Driver<'a> {
    pub program: &'a Program,
    pub places: &'a Places,
    pub constants: Option<&'a Data>,
    /// The weights in the object.
    pub weights: Option<&'a Data>,
    /// Whether they come from the caller.
    pub takes_weights: bool,
    pub object: &'a ObjectModule,
    pub config: TargetFrontendConfig,
}

/// Where the buffers are for one of the functions: the addresses that its caller gave.
#[derive(Clone, Copy)]
enum Memory {
    /// The table of weights, if there is one; the prepared memory.
    Prepare {
        weights: Option<Value>,
        prepared: Value,
    },
    Run {
        prepared: Value,
        inputs: Value,
        outputs: Value,
        workspace: Value,
    },
}

/// The kernels' functions for one of the exported ones.
struct Callees {
    /// By kernel.
    entries: Vec<Option<FuncRef>>,
    /// By kernel: its pack function, if it's called here.
    packs: Vec<Option<FuncRef>>,
    /// The address of a table for one call.
    table: Value,
}

impl Driver<'_> {
    /// All of them, in the order in which they follow the module's units.
    pub fn units(&self, module: &Module, environment: Exchange, prefix: &str, flat: &Flat) -> Vec<Unit> {
        let exchange = module.units.len();
        let unit = |name: String, comment: &str, visibility, function, code: Option<Vec<u8>>| Unit {
            name,
            comment: comment.to_string(),
            visibility,
            function,
            code,
        };
        let exported = |name: &str, comment: &str, function| {
            unit(format!("{prefix}_{name}"), comment, Visibility::Exported, function, None)
        };
        let name = "loom_exchange_environment";
        let signature = Function::with_name_signature(UserFuncName::testcase(name), exchange_signature());
        vec![
            unit(name.to_string(), "", Visibility::Local, signature, Some(environment.code.to_vec())),
            exported("prepare", "packs the weights", self.prepare(module, (exchange, environment))),
            exported("run", "runs one batch", self.run(module, (exchange, environment))),
            exported("prepared_bytes", "", self.size(self.places.prepared_bytes)),
            exported("workspace_bytes", "", self.size(self.places.workspace_bytes)),
            exported("weights_bytes", "", self.size(flat.bytes)),
        ]
    }

    fn signature(&self, parameters: usize, result: bool) -> Signature {
        let mut signature = Signature::new(self.config.default_call_conv);
        signature.params.extend(vec![AbiParam::new(types::I64); parameters]);
        signature.returns.extend(result.then(|| AbiParam::new(types::I64)));
        signature
    }

    fn write(&self, signature: Signature, body: impl FnOnce(&mut Gen<'_>, &[Value]) -> Vec<Value>) -> Function {
        let mut context = FunctionBuilderContext::new();
        functions::write(&mut context, self.config, UserFuncName::default(), signature, body)
    }

    fn size(&self, bytes: u64) -> Function {
        self.write(self.signature(0, true), |g, _| vec![g.index(bytes)])
    }

    fn prepare(&self, module: &Module, environment: (usize, Exchange)) -> Function {
        let parameters = if self.takes_weights { 2 } else { 1 };
        self.write(self.signature(parameters, false), |g, params| {
            let weights = self.takes_weights.then(|| params[0]);
            let memory = Memory::Prepare { weights, prepared: params[parameters - 1] };
            in_environment(g, environment, |g| {
                self.copy_weights(g, memory, params[parameters - 1]);
                let callees = self.callees(g, module, PackTime::Load);
                for (kernel, units) in module.kernels.iter().enumerate() {
                    if let (Some(pack), Some(place)) = (callees.packs[kernel], self.places.panels[kernel]) {
                        let items = units.layout.panels.map_or(0, |panels| panels.panels);
                        let target = g.b.ins().iadd_imm_u(params[parameters - 1], place as i64);
                        self.fill_table(g, kernel, memory, target, callees.table);
                        let (begin, end) = (g.index(0), g.index(items));
                        g.b.ins().call(pack, &[callees.table, begin, end, target]);
                    }
                }
            });
            Vec::new()
        })
    }

    /// The weights that kernels read themselves.
    fn copy_weights(&self, g: &mut Gen<'_>, memory: Memory, prepared: Value) {
        for (index, buffer) in self.program.buffers.iter().enumerate() {
            let Some(place) = self.places.copies[index] else { continue };
            let from = self.address(g, index, memory);
            let to = g.b.ins().iadd_imm_u(prepared, place as i64);
            each_four(g, buffer.shape.elements(), |g, offset, ty| {
                let (from, to) = (g.b.ins().iadd(from, offset), g.b.ins().iadd(to, offset));
                let bits = g.b.ins().load(ty, flags(), from, 0);
                g.b.ins().store(flags(), bits, to, 0);
            });
        }
    }

    fn run(&self, module: &Module, environment: (usize, Exchange)) -> Function {
        self.write(self.signature(4, false), |g, params| {
            let &[prepared, inputs, outputs, workspace] = params else { unreachable!("of this signature") };
            let memory = Memory::Run { prepared, inputs, outputs, workspace };
            in_environment(g, environment, |g| {
                let callees = self.callees(g, module, PackTime::Run);
                for step in self.program.steps() {
                    match step {
                        Step::Kernel(kernel) => self.run_kernel(g, kernel, module, memory, &callees, None),
                        Step::Loop { kernels, count } => {
                            let end = g.index(count);
                            g.count_to(end, 1, |g, index| {
                                for kernel in kernels {
                                    self.run_kernel(g, kernel, module, memory, &callees, Some(index));
                                }
                            });
                        }
                    }
                }
            });
            Vec::new()
        })
    }

    /// One kernel, its panels first; of a kernel in a loop its items for this index.
    fn run_kernel(
        &self,
        g: &mut Gen<'_>,
        kernel: usize,
        module: &Module,
        memory: Memory,
        callees: &Callees,
        index: Option<Value>,
    ) {
        let Memory::Run { prepared, workspace, .. } = memory else { unreachable!("called in runs") };
        let layout: &KernelLayout = &module.kernels[kernel].layout;
        let panels = match self.places.panels[kernel] {
            Some(place) => g.b.ins().iadd_imm_u(prepared, place as i64),
            None => g.b.ins().iadd_imm_u(workspace, self.places.run_panels as i64),
        };
        self.fill_table(g, kernel, memory, panels, callees.table);
        if let (Some(pack), Some(layout)) = (callees.packs[kernel], layout.panels) {
            let (begin, end) = slice(g, layout.panels, layout.slices, index);
            let first = g.element(panels, begin, layout.panel_bytes);
            g.b.ins().call(pack, &[callees.table, begin, end, first]);
        }
        if let Some(entry) = callees.entries[kernel] {
            let (begin, end) = slice(g, layout.items, layout.slices, index);
            let scratch = g.b.ins().iadd_imm_u(workspace, self.places.scratch as i64);
            g.b.ins().call(entry, &[callees.table, begin, end, scratch]);
        }
    }

    fn callees(&self, g: &mut Gen<'_>, module: &Module, time: PackTime) -> Callees {
        let signature = g.b.import_signature(self.signature(4, false));
        let mut callees = Callees { entries: Vec::new(), packs: Vec::new(), table: g.index(0) };
        for kernel in &module.kernels {
            let now = kernel.layout.panels.is_some_and(|panels| panels.when == time);
            let pack = kernel.pack.filter(|_| now).map(|pack| g.import(pack, signature, true));
            let entry = (time == PackTime::Run).then(|| g.import(kernel.entry, signature, true));
            callees.packs.push(pack);
            callees.entries.push(entry);
        }
        // The verifier counts a kernel's buffers; its panels come after them.
        let bytes = 8 * (MAX_KERNEL_BUFFERS as u32 + 1);
        callees.table = stack(g, bytes);
        callees
    }

    /// Writes a kernel's table.
    fn fill_table(&self, g: &mut Gen<'_>, kernel: usize, memory: Memory, panels: Value, table: Value) {
        let buffers = self.program.kernels[kernel].buffers();
        for (slot, buffer) in buffers.iter().enumerate() {
            let address = self.address(g, buffer.index(), memory);
            g.b.ins().store(flags(), address, table, slot as i32 * 8);
        }
        g.b.ins().store(flags(), panels, table, buffers.len() as i32 * 8);
    }

    /// A buffer's address; of one that isn't read by this function, any.
    fn address(&self, g: &mut Gen<'_>, buffer: usize, memory: Memory) -> Value {
        let kind = &self.program.buffers[buffer].kind;
        // Its number among those of its kind.
        let alike = |other: &BufferKind| {
            (other.is_weight() && kind.is_weight()) || std::mem::discriminant(other) == std::mem::discriminant(kind)
        };
        let number = self.program.buffers[..buffer].iter().filter(|other| alike(&other.kind)).count();
        let entry = |g: &mut Gen<'_>, table: Value| g.b.ins().load(types::I64, flags(), table, number as i32 * 8);
        match (kind, memory) {
            (BufferKind::Constant(_), _) => self.datum(g, self.constants, number),
            (BufferKind::Weight | BufferKind::Codes(_), Memory::Prepare { weights: Some(table), .. }) => {
                entry(g, table)
            }
            (BufferKind::Weight | BufferKind::Codes(_), Memory::Prepare { .. }) => self.datum(g, self.weights, number),
            (BufferKind::Weight | BufferKind::Codes(_), Memory::Run { prepared, .. }) => {
                g.b.ins().iadd_imm_u(prepared, self.places.copies[buffer].unwrap_or(0) as i64)
            }
            (BufferKind::Input, Memory::Run { inputs, .. }) => entry(g, inputs),
            (BufferKind::Output, Memory::Run { outputs, .. }) => entry(g, outputs),
            (BufferKind::Temp, Memory::Run { workspace, .. }) => {
                g.b.ins().iadd_imm_u(workspace, self.places.temporaries[buffer].unwrap_or(0) as i64)
            }
            (_, Memory::Prepare { prepared, .. }) => prepared,
        }
    }

    /// An array in the object.
    fn datum(&self, g: &mut Gen<'_>, data: Option<&Data>, number: usize) -> Value {
        let Some(data) = data else { return g.index(0) };
        let symbol = self.object.declare_data_in_func(data.id, g.b.func);
        let address = g.b.ins().symbol_value(types::I64, symbol);
        let offset = data.flat.offsets.get(number).copied().unwrap_or(0);
        g.b.ins().iadd_imm_u(address, offset as i64)
    }
}

fn exchange_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([AbiParam::new(types::I64); 2]);
    signature
}

fn stack(g: &mut Gen<'_>, bytes: u32) -> Value {
    let slot = g.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3));
    g.b.ins().stack_addr(types::I64, slot, 0)
}

/// `body` in LN1's floating-point environment, and the caller's after it.
fn in_environment(g: &mut Gen<'_>, (exchange, environment): (usize, Exchange), body: impl FnOnce(&mut Gen<'_>)) {
    let signature = g.b.import_signature(exchange_signature());
    let exchange = g.import(exchange, signature, true);
    let callers = stack(g, 8);
    let ln1 = stack(g, 8);
    let word = g.b.ins().iconst(types::I64, environment.ln1 as i64);
    g.b.ins().store(flags(), word, ln1, 0);
    g.b.ins().call(exchange, &[callers, ln1]);
    body(g);
    g.b.ins().call(exchange, &[ln1, callers]);
}

/// The items of one index, of `slices` equal runs.
fn slice(g: &mut Gen<'_>, items: u64, slices: u64, index: Option<Value>) -> (Value, Value) {
    let size = items.checked_div(slices).unwrap_or(0);
    match index.filter(|_| slices != 1) {
        Some(index) => {
            let begin = g.b.ins().imul_imm_u(index, size as i64);
            (begin, g.b.ins().iadd_imm_u(begin, size as i64))
        }
        None => (g.index(0), g.index(size)),
    }
}

/// For elements of 4 bytes: `body` with an offset in bytes and a type, four elements at a time and then one by one.
fn each_four(g: &mut Gen<'_>, elements: u64, mut body: impl FnMut(&mut Gen<'_>, Value, cranelift_codegen::ir::Type)) {
    let (zero, end) = (g.index(0), g.index(elements * 4));
    let (next, _) = g.count_up((zero, end), 16, &[], |g, offset, _| {
        body(g, offset, types::I32X4);
        Vec::new()
    });
    if !elements.is_multiple_of(4) {
        g.count_up((next, end), 4, &[], |g, offset, _| {
            body(g, offset, types::I32);
            Vec::new()
        });
    }
}

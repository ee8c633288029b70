//! A program as a list of functions, in an order and under names that depend on the program alone.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, Signature, UserFuncName, Value, types};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use loom_ir::kernel::{Body, Kernel, Program};

use crate::abi::{KernelLayout, Microkernel};
use crate::alike;
use crate::emit::contract::{ContractPlan, Functions, Side};
use crate::emit::gather::GatherPlan;
use crate::emit::map::MapPlan;
use crate::emit::reduce::ReducePlan;
use crate::emit::wide::WideFunctions;
use crate::emit::{Gen, flags, micro};
use crate::error::Error;
use crate::level::Level;
use crate::wide::{Isa, Pool};

/// How a kernel will be computed.
#[derive(Debug)]
enum KernelPlan {
    Map(MapPlan),
    Reduce(ReducePlan),
    Contract(Box<ContractPlan>),
    Gather(GatherPlan),
}

impl KernelPlan {
    fn new(
        program: &Program,
        kernel: &Kernel,
        microkernels: &[Microkernel],
        wide: &mut Pool,
    ) -> Result<KernelPlan, Error> {
        Ok(match &kernel.body {
            Body::Map(lambda) => KernelPlan::Map(MapPlan::new(program, kernel, lambda, wide)?),
            Body::Reduce(reduce) => KernelPlan::Reduce(ReducePlan::new(program, kernel, reduce, wide)?),
            Body::Gather(gather) => KernelPlan::Gather(GatherPlan::new(program, kernel, gather)?),
            Body::Contract(contract) => {
                KernelPlan::Contract(Box::new(ContractPlan::new(program, kernel, contract, microkernels, wide)?))
            }
        })
    }

    fn layout(&self) -> KernelLayout {
        match self {
            KernelPlan::Map(plan) => plan.layout(),
            KernelPlan::Reduce(plan) => plan.layout(),
            KernelPlan::Contract(plan) => plan.layout(),
            KernelPlan::Gather(plan) => plan.layout(),
        }
    }
}

/// Who sees a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Callers of the module.
    Exported,
    /// The module.
    Local,
    /// A microkernel from elsewhere: its number in the list of those.
    Imported(usize),
}

/// One function of a module. Functions call each other by their position in the list.
#[derive(Debug)]
pub(crate) struct Unit {
    pub name: String,
    /// What it's for, in the words of the program.
    pub comment: String,
    pub visibility: Visibility,
    /// For an imported function, and for one with code of its own, only the signature is meant.
    pub function: Function,
    /// Code that isn't Cranelift's.
    pub code: Option<Vec<u8>>,
}

/// Where a kernel's functions stand in the list. Kernels that differ in their buffers alone have the same.
#[derive(Debug, Clone)]
pub(crate) struct KernelUnits {
    pub layout: KernelLayout,
    pub entry: usize,
    /// The pack function of the panels.
    pub pack: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Module {
    pub units: Vec<Unit>,
    pub kernels: Vec<KernelUnits>,
}

impl Module {
    /// Nobody outside calls the kernels.
    pub(crate) fn hide(&mut self) {
        for unit in self.units.iter_mut().filter(|unit| unit.visibility == Visibility::Exported) {
            unit.visibility = Visibility::Local;
        }
    }
}

/// What functions may use besides Cranelift's instructions. Without any of it they run anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras<'a> {
    pub microkernels: &'a [Microkernel],
    pub wide: Option<Isa>,
}

impl Extras<'_> {
    /// What an object of a level has besides.
    pub(crate) fn of_object(level: Level) -> Self {
        Extras { microkernels: &[], wide: level.wide() }
    }
}

/// Generates all functions of a program.
pub(crate) fn generate(
    program: &Program,
    Extras { microkernels, wide }: Extras<'_>,
    config: TargetFrontendConfig,
    colocated: bool,
) -> Result<Module, Error> {
    let mut wide = Pool::new(wide);
    let mut plans = Vec::new();
    let first_alike = alike::first_alike(program);
    let distinct =
        || first_alike.iter().enumerate().filter(|&(number, &first)| number == first).map(|(_, &first)| first);
    for number in distinct() {
        plans.push(KernelPlan::new(program, &program.kernels[number], microkernels, &mut wide)?);
    }
    let mut shapes: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut count = 0;
    for plan in &plans {
        count += 1;
        if let KernelPlan::Contract(plan) = plan {
            shapes.insert(plan.shape());
            count += 2;
        }
    }
    let first_wide = count + shapes.len();
    let mut writer = Writer { context: FunctionBuilderContext::new(), config, colocated, first_wide };
    let (mut units, mut known) = (Vec::new(), BTreeMap::new());
    for (number, plan) in distinct().zip(&plans) {
        let kernel = &program.kernels[number];
        let name = format!("loom_kernel_{number}");
        let comment = format!("kernel \"{}\" {}", kernel.name, kernel.body.name());
        let entry = units.len();
        let layout = plan.layout();
        let mut pack = None;
        match plan {
            KernelPlan::Contract(plan) => {
                let micro = count + shapes.iter().position(|&shape| shape == plan.shape()).unwrap_or(0);
                let (narrow, wide) = (entry + 1, entry + 2);
                let by_side = |side| if side == Side::Narrow { narrow } else { wide };
                pack = Some(by_side(plan.panels));
                let function = writer.contract_kernel(&name, kernel, plan, &layout, by_side(plan.other()), micro);
                units.push(Unit {
                    name: name.clone(),
                    comment,
                    visibility: Visibility::Exported,
                    function,
                    code: None,
                });
                for (side, word) in [(Side::Narrow, "narrow"), (Side::Wide, "wide")] {
                    let is_panels = plan.panels == side;
                    let name = format!("{name}_pack_{word}");
                    let function = writer.pack(&name, kernel, plan, side);
                    let comment = format!("kernel \"{}\" {word} operand", kernel.name);
                    let visibility = if is_panels { Visibility::Exported } else { Visibility::Local };
                    units.push(Unit { name, comment, visibility, function, code: None });
                }
            }
            KernelPlan::Map(_) | KernelPlan::Reduce(_) | KernelPlan::Gather(_) => {
                let function = writer.kernel(&name, kernel, plan, &layout);
                units.push(Unit { name, comment, visibility: Visibility::Exported, function, code: None });
            }
        }
        known.insert(number, KernelUnits { layout, entry, pack });
    }
    let kernels = first_alike.iter().filter_map(|first| known.get(first).cloned()).collect();
    for &(mr, nr) in &shapes {
        let external = microkernels.iter().position(|kernel| (u64::from(kernel.mr), u64::from(kernel.nr)) == (mr, nr));
        let name = format!("loom_micro_{mr}x{nr}");
        let function = writer.microkernel(&name, (mr, nr));
        let visibility = external.map_or(Visibility::Local, Visibility::Imported);
        units.push(Unit { name, comment: "microkernel".to_string(), visibility, function, code: None });
    }
    for (number, code) in wide.into_codes().enumerate() {
        let name = format!("loom_wide_{number}");
        let function = Function::with_name_signature(UserFuncName::testcase(&name), wide_signature());
        let (comment, visibility) = ("wide function".to_string(), Visibility::Local);
        units.push(Unit { name, comment, visibility, function, code: Some(code) });
    }
    Ok(Module { units, kernels })
}

struct Writer {
    context: FunctionBuilderContext,
    config: TargetFrontendConfig,
    colocated: bool,
    /// The number of the first wide function.
    first_wide: usize,
}

/// See [`crate::wide`].
pub(crate) fn wide_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([AbiParam::new(types::I64); 4]);
    signature
}

impl Writer {
    /// All functions take four addresses or counts.
    fn signature(&self) -> Signature {
        let mut signature = Signature::new(self.config.default_call_conv);
        signature.params.extend([AbiParam::new(types::I64); 4]);
        signature
    }

    fn write(&mut self, name: &str, slots: usize, body: impl FnOnce(&mut Gen<'_>, [Value; 4])) -> Function {
        let (name, signature) = (UserFuncName::testcase(name), self.signature());
        let wide = WideFunctions { first: self.first_wide, colocated: self.colocated };
        write(&mut self.context, self.config, name, signature, |g, params| {
            let params = [params[0], params[1], params[2], params[3]];
            g.wide = wide;
            for slot in 0..slots {
                // The table is the caller's and doesn't change during the call.
                let address = g.b.ins().load(types::I64, flags().with_readonly(), params[0], slot as i32 * 8);
                g.buffers.push(address);
            }
            body(g, params);
            Vec::new()
        })
    }

    fn kernel(&mut self, name: &str, kernel: &Kernel, plan: &KernelPlan, layout: &KernelLayout) -> Function {
        self.write(name, kernel.buffers().len(), |g, [_, begin, end, scratch]| match plan {
            _ if layout.items == 0 => {}
            KernelPlan::Map(plan) => plan.emit(g, begin, end),
            KernelPlan::Reduce(plan) => plan.emit(g, begin, end, scratch),
            KernelPlan::Gather(plan) => plan.emit(g, begin, end),
            KernelPlan::Contract(_) => unreachable!("contractions call other functions: see contract_kernel"),
        })
    }

    fn contract_kernel(
        &mut self,
        name: &str,
        kernel: &Kernel,
        plan: &ContractPlan,
        layout: &KernelLayout,
        pack: usize,
        microkernel: usize,
    ) -> Function {
        let (signature, colocated) = (self.signature(), self.colocated);
        let slots = kernel.buffers().len();
        self.write(name, slots + 1, |g, [table, begin, end, scratch]| {
            if layout.items == 0 {
                return;
            }
            let signature = g.b.import_signature(signature);
            let mut import = |unit: usize| g.import(unit, signature, colocated);
            let functions = Functions { pack: import(pack), microkernel: import(microkernel) };
            let panels = g.buffers[slots];
            plan.emit(g, (table, panels), (begin, end), scratch, functions);
        })
    }

    fn pack(&mut self, name: &str, kernel: &Kernel, plan: &ContractPlan, side: Side) -> Function {
        let pack = plan.side(side);
        self.write(name, kernel.buffers().len(), |g, [_, begin, end, target]| {
            if pack.panels() > 0 {
                pack.emit(g, (begin, end), target);
            }
        })
    }

    fn microkernel(&mut self, name: &str, shape: (u64, u64)) -> Function {
        self.write(name, 0, |g, params| micro::emit(g, shape, params))
    }
}

/// A function of one block to begin with; `body` gives what it returns.
pub(crate) fn write(
    context: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
    name: UserFuncName,
    signature: Signature,
    body: impl FnOnce(&mut Gen<'_>, &[Value]) -> Vec<Value>,
) -> Function {
    let mut function = Function::with_name_signature(name, signature);
    let mut b = FunctionBuilder::new(&mut function, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let params = b.block_params(entry).to_vec();
    let mut g = Gen { b, buffers: Vec::new(), wide: WideFunctions { first: 0, colocated: true } };
    let results = body(&mut g, &params);
    g.b.ins().return_(&results);
    let Gen { b, .. } = g;
    b.finalize(config);
    function
}

/// The configuration of text that belongs to no target.
pub(crate) fn neutral_config() -> TargetFrontendConfig {
    TargetFrontendConfig {
        default_call_conv: CallConv::SystemV,
        pointer_width: target_lexicon::PointerWidth::U64,
        page_size_align_log2: 12,
    }
}

//! A program as a list of functions, in an order and under names that depend on the program alone.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, Signature, UserFuncName, Value, types};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use loom_ir::kernel::{Body, BufferId, Forms, Kernel, Program};

use crate::abi::{Factors, KernelLayout, Microkernel, RowsFn};
use crate::emit::attend::AttendPlan;
use crate::emit::contract::{ContractPlan, Functions, Side, StoredForms};
use crate::emit::gather::GatherPlan;
use crate::emit::map::MapPlan;
use crate::emit::reduce::ReducePlan;
use crate::emit::wide::WideFunctions;
use crate::emit::{Gen, flags, micro};
use crate::error::Error;
use crate::level::Level;
use crate::stored::StoredPack;
use crate::wide::{Isa, Pool};
use crate::{alike, apart};

/// How a kernel will be computed.
#[derive(Debug)]
enum KernelPlan {
    Map(MapPlan),
    Reduce(ReducePlan),
    Contract(Box<ContractPlan>),
    Gather(GatherPlan),
    Attend(Box<AttendPlan>),
}

impl KernelPlan {
    fn new(program: &Program, kernel: &Kernel, extras: &Extras<'_>, wide: &mut Pool) -> Result<KernelPlan, Error> {
        Ok(match &kernel.body {
            Body::Map(lambda) => KernelPlan::Map(MapPlan::new(program, kernel, lambda, wide)?),
            Body::Reduce(reduce) => KernelPlan::Reduce(ReducePlan::new(program, kernel, reduce, wide)?),
            Body::Gather(gather) => KernelPlan::Gather(GatherPlan::new(program, kernel, gather)?),
            Body::Contract(contract) => {
                KernelPlan::Contract(Box::new(ContractPlan::new(program, kernel, contract, extras, wide)?))
            }
            Body::Attend(attend) => {
                KernelPlan::Attend(Box::new(AttendPlan::new(program, kernel, attend, extras, wide)?))
            }
        })
    }

    fn layout(&self) -> KernelLayout {
        match self {
            KernelPlan::Map(plan) => plan.layout(),
            KernelPlan::Reduce(plan) => plan.layout(),
            KernelPlan::Contract(plan) => plan.layout(),
            KernelPlan::Gather(plan) => plan.layout(),
            KernelPlan::Attend(plan) => plan.layout(),
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
    /// Nobody: it's from elsewhere.
    Imported(Import),
}

/// A function that isn't generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Import {
    /// The number of a microkernel in the list of those.
    Microkernel(usize),
    /// The function that copies rows.
    Rows,
    /// A function of this crate's own for stored panels: its address.
    Stored(*const u8),
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
    /// The panels, where they are a stored weight's; then the pack function writes nothing.
    pub stored: Option<StoredPack>,
}

#[derive(Debug)]
pub(crate) struct Module {
    pub units: Vec<Unit>,
    pub kernels: Vec<KernelUnits>,
    /// The weights in fewer bits that functions read as `f32`s nevertheless.
    pub widened: BTreeSet<BufferId>,
}

impl Module {
    /// Makes the functions ones of a target.
    pub(crate) fn of_target(&mut self, isa: &dyn TargetIsa) {
        if apart::is_needed(isa) {
            self.units.iter_mut().for_each(|unit| apart::keep_apart(&mut unit.function));
        }
    }

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
    pub rows: Option<RowsFn>,
    pub wide: Option<Isa>,
    pub stored: StoredForms<'a>,
}

/// No weight is stored in fewer bits.
static NO_FORMS: Forms = Forms::new();

impl Default for StoredForms<'_> {
    fn default() -> Self {
        StoredForms { forms: &NO_FORMS, level: Level::Portable }
    }
}

impl Extras<'_> {
    /// What an object of a level has besides.
    pub(crate) fn of_object(level: Level) -> Self {
        Extras { wide: level.wide(), ..Extras::default() }
    }
}

/// Generates all functions of a program.
pub(crate) fn generate(
    program: &Program,
    extras: Extras<'_>,
    config: TargetFrontendConfig,
    colocated: bool,
) -> Result<Module, Error> {
    let mut wide = Pool::new(extras.wide);
    let mut plans = Vec::new();
    let first_alike = alike::first_alike(program, extras.stored.forms);
    let distinct =
        || first_alike.iter().enumerate().filter(|&(number, &first)| number == first).map(|(_, &first)| first);
    for number in distinct() {
        plans.push(KernelPlan::new(program, &program.kernels[number], &extras, &mut wide)?);
    }
    let mut shapes: BTreeSet<(Factors, (u64, u64))> = BTreeSet::new();
    let mut stored: Vec<*const u8> = Vec::new();
    let mut count = 0;
    for plan in &plans {
        count += 1;
        match plan {
            KernelPlan::Contract(plan) => {
                shapes.insert((plan.factors(), plan.shape()));
                let code = plan.stored().map(|stored| stored.code);
                stored.extend(code.filter(|code| !stored.contains(code)));
                count += 2;
            }
            KernelPlan::Attend(plan) => shapes.extend(plan.shapes().map(|shape| (Factors::F32, shape))),
            KernelPlan::Map(_) | KernelPlan::Reduce(_) | KernelPlan::Gather(_) => {}
        }
    }
    let first_stored = count + shapes.len();
    let rows = first_stored + stored.len();
    let first_wide = rows + usize::from(extras.rows.is_some());
    let mut writer = Writer { context: FunctionBuilderContext::new(), config, colocated, rows, first_wide };
    let (mut units, mut known) = (Vec::new(), BTreeMap::new());
    for (number, plan) in distinct().zip(&plans) {
        let kernel = &program.kernels[number];
        let name = format!("loom_kernel_{number}");
        let comment = format!("kernel \"{}\" {}", kernel.name, kernel.body.name());
        let entry = units.len();
        let layout = plan.layout();
        let (mut pack, mut stored_pack) = (None, None);
        let micro = |factors: Factors, shape: (u64, u64)| {
            count + shapes.iter().position(|&known| known == (factors, shape)).unwrap_or(0)
        };
        match plan {
            KernelPlan::Contract(plan) => {
                let micro = micro(plan.factors(), plan.shape());
                let (narrow, wide) = (entry + 1, entry + 2);
                let by_side = |side| if side == Side::Narrow { narrow } else { wide };
                pack = Some(by_side(plan.panels));
                let mut calls = Calls { pack: by_side(plan.other()), microkernel: micro, widen: None };
                if let Some(panels) = plan.stored() {
                    let unit = first_stored + stored.iter().position(|&code| code == panels.code).unwrap_or(0);
                    match panels.in_registers {
                        true => calls.microkernel = unit,
                        false => calls.widen = Some(unit),
                    }
                }
                let function = writer.contract_kernel(&name, kernel, plan, &layout, calls);
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
                stored_pack = plan.stored().map(|stored| stored.pack.clone());
            }
            KernelPlan::Attend(plan) => {
                let function = writer.attend_kernel(
                    &name,
                    kernel,
                    plan,
                    &layout,
                    plan.shapes().map(|shape| micro(Factors::F32, shape)),
                );
                units.push(Unit { name, comment, visibility: Visibility::Exported, function, code: None });
            }
            KernelPlan::Map(_) | KernelPlan::Reduce(_) | KernelPlan::Gather(_) => {
                let function = writer.kernel(&name, kernel, plan, &layout);
                units.push(Unit { name, comment, visibility: Visibility::Exported, function, code: None });
            }
        }
        known.insert(number, (KernelUnits { layout, entry, pack, stored: stored_pack }, plan));
    }
    for &(factors, (mr, nr)) in &shapes {
        let stands_in =
            |kernel: &Microkernel| (kernel.factors, u64::from(kernel.mr), u64::from(kernel.nr)) == (factors, mr, nr);
        let external = extras.microkernels.iter().position(stands_in);
        let word = match factors {
            Factors::F32 => "",
            Factors::I8 => "i8_",
        };
        let name = format!("loom_micro_{word}{mr}x{nr}");
        let function = writer.microkernel(&name, factors, (mr, nr));
        let visibility = external.map_or(Visibility::Local, |number| Visibility::Imported(Import::Microkernel(number)));
        units.push(Unit { name, comment: "microkernel".to_string(), visibility, function, code: None });
    }
    for (number, &code) in stored.iter().enumerate() {
        let name = format!("loom_stored_{number}");
        let function = Function::with_name_signature(UserFuncName::testcase(&name), writer.signature());
        let (comment, visibility) = ("stored panels".to_string(), Visibility::Imported(Import::Stored(code)));
        units.push(Unit { name, comment, visibility, function, code: None });
    }
    if extras.rows.is_some() {
        let name = "loom_rows".to_string();
        let function = Function::with_name_signature(UserFuncName::testcase(&name), writer.signature());
        let (comment, visibility) = ("copies rows".to_string(), Visibility::Imported(Import::Rows));
        units.push(Unit { name, comment, visibility, function, code: None });
    }
    for (number, code) in wide.into_codes().enumerate() {
        let name = format!("loom_wide_{number}");
        let function = Function::with_name_signature(UserFuncName::testcase(&name), wide_signature());
        let (comment, visibility) = ("wide function".to_string(), Visibility::Local);
        units.push(Unit { name, comment, visibility, function, code: Some(code) });
    }
    let (mut kernels, mut widened) = (Vec::new(), BTreeSet::new());
    for (kernel, first) in program.kernels.iter().zip(&first_alike) {
        let Some((units, plan)) = known.get(first) else { unreachable!("the first of its kind is known") };
        let stored = units.stored.as_ref().map(|pack| pack.of_alike(&program.kernels[*first], kernel));
        kernels.push(KernelUnits { stored, ..units.clone() });
        let panels = if let KernelPlan::Contract(plan) = plan { plan.stored().map(|stored| stored.load) } else { None };
        let loads = (0..).zip(&kernel.loads).filter(|(number, _)| !is_panels(kernel, *number, panels));
        widened.extend(loads.map(|(_, load)| load.buffer).filter(|buffer| extras.stored.forms.contains_key(buffer)));
    }
    Ok(Module { units, kernels, widened })
}

/// Whether a load is made by stored panels alone.
fn is_panels(kernel: &Kernel, load: u32, panels: Option<u32>) -> bool {
    let users = kernel.lambdas().into_iter().flat_map(|lambda| lambda.loads()).filter(|&other| other == load).count();
    panels == Some(load) && users == 1
}

/// The functions that a contraction calls, by their numbers.
struct Calls {
    pack: usize,
    microkernel: usize,
    widen: Option<usize>,
}

struct Writer {
    context: FunctionBuilderContext,
    config: TargetFrontendConfig,
    colocated: bool,
    /// The function that copies rows, and the first wide function.
    rows: usize,
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
        let wide = WideFunctions { first: self.first_wide, rows: self.rows, colocated: self.colocated };
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
            KernelPlan::Contract(_) | KernelPlan::Attend(_) => unreachable!("they call other functions: see below"),
        })
    }

    fn contract_kernel(
        &mut self,
        name: &str,
        kernel: &Kernel,
        plan: &ContractPlan,
        layout: &KernelLayout,
        calls: Calls,
    ) -> Function {
        let (signature, colocated) = (self.signature(), self.colocated);
        let slots = kernel.buffers().len();
        self.write(name, slots + 1, |g, [table, begin, end, scratch]| {
            if layout.items == 0 {
                return;
            }
            let signature = g.b.import_signature(signature);
            let mut import = |unit: usize| g.import(unit, signature, colocated);
            let functions = Functions {
                pack: import(calls.pack),
                microkernel: import(calls.microkernel),
                widen: calls.widen.map(import),
            };
            let panels = g.buffers[slots];
            plan.emit(g, (table, panels), (begin, end), scratch, functions);
        })
    }

    fn attend_kernel(
        &mut self,
        name: &str,
        kernel: &Kernel,
        plan: &AttendPlan,
        layout: &KernelLayout,
        microkernels: [usize; 2],
    ) -> Function {
        let (signature, colocated) = (self.signature(), self.colocated);
        self.write(name, kernel.buffers().len(), |g, [_, begin, end, scratch]| {
            if layout.items == 0 {
                return;
            }
            let signature = g.b.import_signature(signature);
            let microkernels = microkernels.map(|unit| g.import(unit, signature, colocated));
            plan.emit(g, (begin, end), scratch, microkernels);
        })
    }

    fn pack(&mut self, name: &str, kernel: &Kernel, plan: &ContractPlan, side: Side) -> Function {
        let pack = plan.side(side);
        self.write(name, kernel.buffers().len(), |g, [_, begin, end, target]| {
            // The panels of a stored weight are not written by generated code.
            let elsewhere = side == plan.panels && plan.stored().is_some();
            if pack.panels() > 0 && !elsewhere {
                pack.emit(g, (begin, end), target);
            }
        })
    }

    fn microkernel(&mut self, name: &str, factors: Factors, shape: (u64, u64)) -> Function {
        self.write(name, 0, |g, params| micro::emit(g, factors, shape, params))
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
    let mut g = Gen { b, buffers: Vec::new(), wide: WideFunctions { first: 0, rows: 0, colocated: true } };
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

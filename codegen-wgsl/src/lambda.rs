//! Lambdas as WGSL functions.
//!
//! A lambda becomes one function: its parameters are the axis indices that it depends on and the results of earlier
//! stages; it loads what it needs and gives its value back. Templates only call it.

use std::collections::{BTreeMap, BTreeSet};

use loom_ir::kernel::{Arg, BufferId, BufferKind, Forms, Kernel, Lambda, Program};
use loom_ir::numerics::formats::Storage;
use loom_ir::numerics::stored::Form;
use loom_ir::types::DType;

use crate::error::Error;
use crate::index::{Guarded, Place};
use crate::scalar::Operations;
use crate::stored;
use crate::target::{Arithmetic, Target};
use crate::text::{Text, comment};

/// A lambda's function.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    name: String,
    /// The axes that it depends on.
    pub axes: BTreeSet<usize>,
    /// The stages whose results it uses.
    reduced: BTreeSet<u32>,
    /// The kept loads that it is given.
    kept: BTreeSet<u32>,
    /// What it gives back.
    pub result: DType,
}

impl Function {
    /// Whether it is given a load that is kept.
    pub fn takes(&self, load: u32) -> bool {
        self.kept.contains(&load)
    }

    /// The call, in a scope where every axis is called `i0`, …, every stage's result `r0`, … and what is kept `l0`, …
    pub fn call(&self) -> String {
        let axes = self.axes.iter().map(|axis| format!("i{axis}"));
        let stages = self.reduced.iter().map(|stage| format!("r{stage}"));
        let args: Vec<String> = axes.chain(stages).chain(self.kept.iter().map(|load| format!("l{load}"))).collect();
        format!("{}({})", self.name, args.join(", "))
    }
}

/// The module of one kernel under construction.
pub(crate) struct Module<'a> {
    pub program: &'a Program,
    /// The kernel that is written now.
    pub kernel: &'a Kernel,
    /// All that the module holds: that kernel, or those of a loop.
    kernels: &'a [Kernel],
    /// Whether the module goes through its loop's indices by itself.
    takes_turns: bool,
    /// The weights that are kept as they are stored.
    forms: &'a Forms,
    /// Everything after the bindings and the operations.
    pub text: Text,
    operations: Operations,
    arithmetic: Arithmetic,
    /// The buffers that are read in vectors of four.
    vectors: BTreeSet<BufferId>,
    /// The loads that functions are given rather than make, with their types; and by numbers above all loads', terms.
    kept: BTreeMap<u32, DType>,
}

impl<'a> Module<'a> {
    /// The module of a kernel, empty so far.
    pub fn new(program: &'a Program, kernel: &'a Kernel, forms: &'a Forms, target: &Target) -> Module<'a> {
        Module {
            program,
            kernel,
            kernels: std::slice::from_ref(kernel),
            takes_turns: false,
            forms,
            text: Text::default(),
            operations: Operations::new(target),
            arithmetic: target.arithmetic,
            vectors: BTreeSet::new(),
            kept: BTreeMap::new(),
        }
    }

    /// The module of all kernels of a loop, the first of which is written first. It goes through the loop's indices.
    pub fn of_loop(
        program: &'a Program,
        kernels: &'a [Kernel],
        forms: &'a Forms,
        target: &Target,
    ) -> Option<Module<'a>> {
        let module = Module::new(program, kernels.first()?, forms, target);
        Some(Module { kernels, takes_turns: true, ..module })
    }

    /// What computes floats.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// From now on buffers are read in vectors of four: a function that loads from one gives the vector whose first
    /// element its load names. They are read in no other way.
    pub fn take_vectors(&mut self, buffers: impl IntoIterator<Item = BufferId>) {
        self.vectors.extend(buffers);
    }

    /// Whether a buffer is more than something that this kernel reads: it is written, or another kernel reads it too.
    pub fn is_shared(&self, buffer: BufferId) -> bool {
        let reads = |kernel: &Kernel| kernel.loads.iter().any(|load| load.buffer == buffer);
        let others = self.kernels.iter().filter(|kernel| kernel.name != self.kernel.name);
        self.is_written(buffer) || others.into_iter().any(reads)
    }

    fn is_written(&self, buffer: BufferId) -> bool {
        self.kernels.iter().any(|kernel| kernel.output.buffer == buffer)
    }

    /// The buffers that the module binds, in the order of the bindings: those read, in order of first use, then those
    /// written.
    pub fn buffers(&self) -> Vec<BufferId> {
        let reads = self.kernels.iter().flat_map(|kernel| &kernel.loads).map(|load| load.buffer);
        let writes = self.kernels.iter().map(|kernel| kernel.output.buffer);
        let mut buffers: Vec<BufferId> = Vec::new();
        for buffer in reads.chain(writes) {
            if !buffers.contains(&buffer) {
                buffers.push(buffer);
            }
        }
        buffers
    }

    /// The constant +0.0 as an expression.
    pub fn zero(&self) -> &'static str {
        self.operations.zero()
    }

    /// The axes of a range that a dispatch covers: all but that of a loop.
    pub fn covered(&self, axes: std::ops::Range<usize>) -> std::ops::Range<usize> {
        if self.kernel.in_loop.is_some() && axes.start == 0 { 1..axes.end } else { axes }
    }

    /// The sum of two floats as an expression.
    pub fn add(&mut self, a: &str, b: &str) -> String {
        self.operations.add(a, b)
    }

    /// The product of two floats as an expression.
    pub fn mul(&mut self, a: &str, b: &str) -> String {
        self.operations.mul(a, b)
    }

    /// The type that values of a type have in the text.
    pub fn dtype(&self, dtype: DType) -> DType {
        self.operations.dtype(dtype)
    }

    /// Whether a buffer is declared `read`. Temporary buffers share an arena, where one is read and another written: wgpu
    /// asks of plain WGSL that it declares how they are bound (see the crate's documentation of memory).
    pub fn reads_only(&self, buffer: BufferId) -> bool {
        let shared = self.arithmetic != Arithmetic::Native && self.program.buffer(buffer).kind == BufferKind::Temp;
        !self.is_written(buffer) && !shared
    }

    /// Declares a constant by its bits.
    pub fn constant(&mut self, name: &str, dtype: DType, bits: u32) {
        self.operations.constant(&mut self.text, name, dtype, bits);
    }

    /// Writes the head of the entry point of one kernel.
    pub fn open_main(&mut self, workgroup_size: u32) {
        self.open_entry(workgroup_size);
        self.turn();
    }

    /// Writes the head of the entry point.
    pub fn open_entry(&mut self, workgroup_size: u32) {
        self.text.line(format!("@compute @workgroup_size({workgroup_size})"));
        self.text.open("fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32)");
        if let Some(prologue) = self.operations.prologue() {
            self.text.line(prologue);
        }
    }

    /// Says, in a function that was begun, which index of its loop the kernel is at: axis 0 is no dispatch's to cover.
    pub fn turn(&mut self) {
        if self.kernel.in_loop.is_some() && self.kernel.axes[0] > 1 {
            self.text.line("let i0 = turn.x;");
        }
    }

    /// Writes a function that makes one load. Functions that are written later are given it.
    pub fn keep_load(&mut self, load: u32) -> Result<Function, Error> {
        let dtype = self.program.buffer(self.kernel.loads[load as usize].buffer).dtype;
        let function = self.function(&format!("load{load}"), &Lambda::identity(Arg::Load(load), dtype), &[])?;
        self.kept.insert(load, dtype);
        Ok(function)
    }

    /// A number that no load has.
    pub fn free_number(&self) -> u32 {
        self.kernel.loads.len() as u32
    }

    /// From now on functions are given a value that is called like a load of this number.
    pub fn keep_value(&mut self, number: u32, dtype: DType) {
        self.kept.insert(number, dtype);
    }

    /// Writes a lambda's function. `reduced` are the types of the stages before it.
    pub fn function(&mut self, name: &str, lambda: &Lambda, reduced: &[DType]) -> Result<Function, Error> {
        let result = lambda.function.result_type().map_err(|error| Error::Invalid(error.to_string()))?;
        let extents = &self.kernel.axes;
        let (axes, reduced_stages, kept) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut function = Function { name: name.to_string(), axes, reduced: reduced_stages, kept, result };
        let mut loads = BTreeSet::new();
        for &arg in &lambda.args {
            match arg {
                Arg::Load(load) if self.kept.contains_key(&load) => {
                    function.kept.insert(load);
                }
                Arg::Load(load) => {
                    if loads.insert(load) {
                        let access = &self.kernel.loads[load as usize];
                        function.axes.extend(Guarded::of(&self.kernel.name, access, extents)?.axes());
                        function.axes.extend(Place::of(access, extents).axes());
                    }
                }
                Arg::Index(axis) => {
                    if extents[axis as usize] > 1 {
                        function.axes.insert(axis as usize);
                    }
                }
                Arg::Reduced(stage) => {
                    function.reduced.insert(stage);
                }
            }
        }
        let axes = function.axes.iter().map(|axis| format!("i{axis}: u32"));
        let stages = function.reduced.iter().map(|&stage| format!("r{stage}: {}", self.dtype(reduced[stage as usize])));
        let kept = function.kept.iter().map(|load| format!("l{load}: {}", self.dtype(self.kept[load])));
        let params: Vec<String> = axes.chain(stages).chain(kept).collect();
        let vector = loads.iter().any(|&load| self.vectors.contains(&self.kernel.loads[load as usize].buffer));
        let dtype = self.dtype(result);
        let returned = if vector { format!("vec4<{dtype}>") } else { dtype.to_string() };
        self.text.open(format!("fn {name}({}) -> {returned}", params.join(", ")));
        for &load in &loads {
            self.load(load)?;
        }
        let args: Vec<String> = lambda
            .args
            .iter()
            .map(|&arg| match arg {
                Arg::Load(load) => format!("l{load}"),
                Arg::Index(axis) if extents[axis as usize] > 1 => format!("i{axis}"),
                Arg::Index(_) => "0u".to_string(),
                Arg::Reduced(stage) => format!("r{stage}"),
            })
            .collect();
        let value = self.operations.body(&mut self.text, &lambda.function, &args)?;
        self.text.line(format!("return {value};"));
        self.text.close();
        self.text.line("");
        Ok(function)
    }

    /// Whether a lambda's function is given nothing but axes.
    pub fn takes_axes_alone(&self, lambda: &Lambda) -> bool {
        lambda.args.iter().all(|arg| match arg {
            Arg::Load(load) => !self.kept.contains_key(load),
            Arg::Index(_) => true,
            Arg::Reduced(_) => false,
        })
    }

    /// Writes the function of four codes of 8 bits, those that another function gives for neighbours along an axis, in a word, the
    /// first in its low bits: of that axis it takes the number of the four, if there are several. Where they are a word in memory, it
    /// is read.
    pub fn packed(&mut self, function: &Function, lambda: &Lambda, axis: usize) -> Result<Function, Error> {
        let mut packed = Function { name: format!("{}_packed", function.name), result: DType::U32, ..function.clone() };
        let several = self.kernel.axes[axis] > 4;
        if !several {
            packed.axes.remove(&axis);
        }
        let params: Vec<String> = packed
            .axes
            .iter()
            .map(|&other| if other == axis { "four: u32".to_string() } else { format!("i{other}: u32") })
            .collect();
        let word = self.word(lambda, axis)?;
        self.text.open(format!("fn {}({}) -> u32", packed.name, params.join(", ")));
        if !function.axes.contains(&axis) {
            self.text.line(format!("return (u32({}) & 255u) * {}u;", function.call(), 0x0101_0101));
        } else {
            self.text.line(format!("let i{axis} = {};", if several { "4u * four" } else { "0u" }));
            match word {
                Some(word) => self.text.line(format!("return {word};")),
                None => {
                    for code in 0..4 {
                        let argument = |&other: &usize| match other == axis && code > 0 {
                            true => format!("i{other} + {code}u"),
                            false => format!("i{other}"),
                        };
                        let arguments: Vec<String> = function.axes.iter().map(argument).collect();
                        self.text.line(format!("let code_{code} = u32({}({}));", function.name, arguments.join(", ")));
                    }
                    self.text.line(
                        "return (code_0 & 255u) | (code_1 & 255u) << 8u | (code_2 & 255u) << 16u | code_3 << 24u;",
                    );
                }
            }
        }
        self.text.close();
        self.text.line("");
        Ok(packed)
    }

    /// The word with the four codes from `i{axis}`, a multiple of four, on, where a lambda is a load of codes that are stored so.
    fn word(&self, lambda: &Lambda, axis: usize) -> Result<Option<String>, Error> {
        let (&[Arg::Load(load)], []) = (lambda.args.as_slice(), lambda.function.insts.as_slice()) else {
            return Ok(None);
        };
        let (access, extents) = (&self.kernel.loads[load as usize], &self.kernel.axes);
        let is_codes = |form: &Form| form.storage == Storage::I8 && form.groups.is_none();
        let stored = self.program.buffer(access.buffer).dtype == DType::I32
            && self.forms.get(&access.buffer).is_some_and(is_codes);
        let place = Place::of(access, extents);
        let mut others = (0..extents.len()).filter(|&other| other != axis);
        let aligned = place.coefficient(axis) == 1
            && place.offset().is_multiple_of(4)
            && others.all(|other| place.coefficient(other).is_multiple_of(4))
            && Guarded::of(&self.kernel.name, access, extents)? == Guarded::Always;
        Ok((stored && aligned).then(|| format!("{}[({}) / 4u]", access.buffer, place.text())))
    }

    /// Declares `l{load}`. Where a guard fails the first element is read in place of one that may not exist, and
    /// dropped: no branch, and a binding is never empty.
    fn load(&mut self, load: u32) -> Result<(), Error> {
        let access = &self.kernel.loads[load as usize];
        let dtype = self.program.buffer(access.buffer).dtype;
        let name = format!("l{load}");
        let place = Place::of(access, &self.kernel.axes).text();
        let stored = self.forms.contains_key(&access.buffer).then(|| stored::name(access.buffer));
        let vector = self.vectors.contains(&access.buffer);
        let read = |place: &str| match (dtype, &stored) {
            (_, Some(name)) if vector => format!("{name}_vector({place})"),
            (_, Some(name)) => format!("{name}({place})"),
            (DType::Bool, _) => format!("({}[{place}] != 0u)", access.buffer),
            _ if vector => format!("{}[({place}) / 4u]", access.buffer),
            _ => format!("{}[{place}]", access.buffer),
        };
        match Guarded::of(&self.kernel.name, access, &self.kernel.axes)? {
            Guarded::Always => self.text.line(format!("let {name} = {};", read(&place))),
            Guarded::Never => self.operations.constant(&mut self.text, &name, dtype, access.fill),
            Guarded::Where(checks) => {
                let checks: Vec<String> =
                    checks.iter().map(|(place, bound)| format!("({} < {bound}u)", place.text())).collect();
                self.text.line(format!("let {name}_inside = {};", checks.join(" & ")));
                self.operations.constant(&mut self.text, &format!("{name}_fill"), dtype, access.fill);
                self.text.line(format!("let {name}_place = select(0u, {place}, {name}_inside);"));
                let read = read(&format!("{name}_place"));
                self.text.line(format!("let {name} = select({name}_fill, {read}, {name}_inside);"));
            }
        }
        Ok(())
    }

    /// Stores a value into the output's element, in a scope where every output axis is called `i0`, …
    pub fn store(&mut self, value: &str, dtype: DType) {
        let output = &self.kernel.output;
        let place = Place::of(output, &self.kernel.axes).text();
        let value = match dtype {
            DType::Bool => format!("u32({value})"),
            _ => value.to_string(),
        };
        self.text.line(format!("{}[{place}] = {value};", output.buffer));
    }

    /// The axes that a store needs.
    pub fn output_axes(&self) -> BTreeSet<usize> {
        Place::of(&self.kernel.output, &self.kernel.axes).axes().collect()
    }

    /// The whole text: header, bindings, operations, and what was written.
    pub fn finish(mut self) -> Result<String, Error> {
        let mut head = Text::default();
        for kernel in self.kernels {
            head.line(format!("// kernel {}: {}", comment(&kernel.name), kernel.body.name()));
        }
        head.line("");
        for (binding, id) in self.buffers().into_iter().enumerate() {
            let buffer = self.program.buffer(id);
            let mode = if self.reads_only(id) { "read" } else { "read_write" };
            let element = self.dtype(storage_type(buffer.dtype));
            let element = match self.forms.get(&id) {
                Some(_) => DType::U32.to_string(),
                None if self.vectors.contains(&id) => format!("vec4<{element}>"),
                None => element.to_string(),
            };
            let mut what = format!("{} {} {}{}", buffer.kind.name(), comment(&buffer.name), buffer.dtype, buffer.shape);
            if let Some(form) = self.forms.get(&id) {
                what += &format!(", stored as {}", form.storage);
            }
            head.line(format!("@group(0) @binding({binding}) var<storage, {mode}> {id}: array<{element}>; // {what}"));
        }
        if self.takes_turns {
            head.line("@group(1) @binding(0) var<uniform> first_turn: vec4<u32>; // the first index of the loop");
            head.line("var<private> turn: vec4<u32>; // the index of the loop");
        } else if self.kernel.in_loop.is_some() {
            head.line("@group(1) @binding(0) var<uniform> turn: vec4<u32>; // the index of the loop");
        }
        head.line("");
        let mut widening = Text::default();
        for id in self.buffers() {
            if let Some(form) = self.forms.get(&id) {
                let buffer = self.program.buffer(id);
                let (elements, vectors) = (buffer.shape.elements(), self.vectors.contains(&id));
                let what = (id, form, elements);
                stored::define(&mut widening, &mut self.operations, what, buffer.dtype, vectors)?;
            }
        }
        self.operations.define(&mut head)?;
        Ok(head.finish() + &widening.finish() + &self.text.finish())
    }
}

/// The type of a buffer's elements in memory.
fn storage_type(dtype: DType) -> DType {
    match dtype {
        DType::Bool => DType::U32,
        _ => dtype,
    }
}

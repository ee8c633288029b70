//! From a program to its kernels' modules.

use loom_ir::kernel::{Body, BufferId, Forms, Kernel, Program, Verified};

use crate::error::Error;
use crate::lambda::Module;
use crate::target::Target;
use crate::{attend, contract, gather, map, reduce};

/// One kernel, ready to be compiled and dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WgslKernel {
    /// The kernel's name.
    pub name: String,
    /// A whole WGSL module; the entry point is `main`.
    pub source: String,
    /// What `@group(0)` binds, in the order of the bindings' numbers.
    pub bindings: Vec<Binding>,
    /// How many workgroups run. None (0, 1, 1) where the output is empty: the kernel need not be dispatched.
    pub workgroups: [u32; 3],
    /// Invocations of a workgroup.
    pub workgroup_size: u32,
    /// Whether the kernel is a part of a loop (`Program::steps`). It's dispatched once for each index of the loop then,
    /// which it reads from the first word of the uniform buffer at `@group(1) @binding(0)`, of 16 bytes.
    pub in_loop: bool,
}

/// A buffer of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Which.
    pub buffer: BufferId,
    /// Whether the text declares it `read`: all but the output, and in plain WGSL temporary buffers.
    pub read_only: bool,
}

/// Generates every kernel of a program.
pub fn generate(program: &Verified, target: &Target) -> Result<Vec<WgslKernel>, Error> {
    generate_stored(program, &Forms::new(), target)
}

/// The same where some weights are kept as they are stored: in buffers of [`stored_words`](crate::stored_words).
pub fn generate_stored(program: &Verified, forms: &Forms, target: &Target) -> Result<Vec<WgslKernel>, Error> {
    program.kernels.iter().map(|kernel| one_kernel(program, kernel, forms, target)).collect()
}

/// Generates one kernel of a verified program.
pub fn generate_kernel(program: &Program, kernel: &Kernel, target: &Target) -> Result<WgslKernel, Error> {
    one_kernel(program, kernel, &Forms::new(), target)
}

fn one_kernel(program: &Program, kernel: &Kernel, forms: &Forms, target: &Target) -> Result<WgslKernel, Error> {
    let mut module = Module::new(program, kernel, forms, target);
    limit(kernel, "storage buffers", module.buffers().len() as u64, target.limits.storage_buffers.into())?;
    let grid = if product(&kernel.axes[..kernel.output_axes()]) == 0 {
        empty(&mut module)
    } else {
        match &kernel.body {
            Body::Map(lambda) => map::generate(&mut module, lambda, target)?,
            Body::Reduce(reduce) => reduce::generate(&mut module, reduce, target)?,
            Body::Contract(contract) => contract::generate(&mut module, contract, target)?,
            Body::Gather(gather) => gather::generate(&mut module, gather, target)?,
            Body::Attend(attend) => attend::generate(&mut module, attend, target)?,
        }
    };
    limit(kernel, "invocations a workgroup", grid.size.into(), target.limits.invocations_per_workgroup.into())?;
    finish(module, grid)
}

/// The kernel of a module, named like the one that was written first.
pub(crate) fn finish(module: Module<'_>, grid: Grid) -> Result<WgslKernel, Error> {
    let buffers = module.buffers().into_iter();
    let bindings = buffers.map(|buffer| Binding { buffer, read_only: module.reads_only(buffer) }).collect();
    let kernel = module.kernel;
    Ok(WgslKernel {
        name: kernel.name.clone(),
        source: module.finish()?,
        bindings,
        workgroups: [grid.x, grid.y, 1],
        workgroup_size: grid.size,
        in_loop: kernel.in_loop.is_some(),
    })
}

/// A kernel that has nothing to write.
fn empty(module: &mut Module<'_>) -> Grid {
    let grid = Grid { x: 0, y: 1, size: 1, count: 0 };
    module.open_main(grid.size);
    module.text.close();
    grid
}

/// The product of extents; verified kernels keep it below 2^31 by groups.
pub(crate) fn product(extents: &[u64]) -> u64 {
    extents.iter().product()
}

/// Fails where a kernel needs more than there is.
pub(crate) fn limit(kernel: &Kernel, what: &'static str, need: u64, limit: u64) -> Result<(), Error> {
    if need > limit { Err(Error::Limit { kernel: kernel.name.clone(), what, need, limit }) } else { Ok(()) }
}

/// The workgroups of a dispatch: one dimension where they fit into it, else two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    x: u32,
    y: u32,
    /// Invocations a workgroup.
    pub size: u32,
    /// Workgroups that have work.
    pub count: u64,
}

impl Grid {
    /// A grid of at least `count` workgroups of `size` invocations.
    pub fn new(kernel: &Kernel, count: u64, size: u32, target: &Target) -> Result<Grid, Error> {
        let most = u64::from(target.limits.workgroups_per_dimension);
        let y = count.div_ceil(most);
        limit(kernel, "workgroups", y, most)?;
        let x = count.div_ceil(y.max(1));
        Ok(Grid { x: x as u32, y: y as u32, size, count })
    }

    /// The grid whose invocations cover `items`, and the statements that open `main`: `flat` is the item's number.
    pub fn over_items(module: &mut Module<'_>, items: u64, target: &Target) -> Result<Grid, Error> {
        let size = target.shapes.workgroup;
        let grid = Grid::new(module.kernel, items.div_ceil(size.into()), size, target)?;
        module.open_main(grid.size);
        module.text.line(format!("let flat = {} * {size}u + local;", grid.number()));
        if u64::from(grid.x) * u64::from(grid.y) * u64::from(size) > items {
            leave(module, "flat", items);
        }
        Ok(grid)
    }

    /// The statements that open `main`: `name` is the workgroup's number, `local` the invocation's in it.
    pub fn over_workgroups(&self, module: &mut Module<'_>, name: &str) {
        module.open_main(self.size);
        module.text.line(format!("let {name} = {};", self.number()));
        self.leave_surplus(module, name);
    }

    /// Ends the workgroups past the last that has work; `name` is the workgroup's number.
    pub fn leave_surplus(&self, module: &mut Module<'_>, name: &str) {
        if u64::from(self.x) * u64::from(self.y) > self.count {
            leave(module, name, self.count);
        }
    }

    /// The grid whose invocations cover `items`, several each, and the statements that open `main`; `body` writes those
    /// for one item, `flat` its number. An invocation's items are a workgroup apart: neighbours have neighbouring ones.
    pub fn over_several_items(
        module: &mut Module<'_>,
        items: u64,
        several: u32,
        target: &Target,
        mut body: impl FnMut(&mut Module<'_>),
    ) -> Result<Grid, Error> {
        let size = target.shapes.workgroup;
        if several == 1 {
            let grid = Grid::over_items(module, items, target)?;
            body(module);
            module.text.close();
            return Ok(grid);
        }
        let grid = Grid::new(module.kernel, items.div_ceil((size * several).into()), size, target)?;
        grid.over_workgroups(module, "number");
        module.text.line(format!("let first = number * {}u + local;", size * several));
        for item in 0..several {
            let number = format!("first + {}u", item * size);
            if items.is_multiple_of((size * several).into()) {
                module.text.open_scope();
            } else {
                module.text.open(format!("if ({number} < {items}u)"));
            }
            module.text.line(format!("let flat = {number};"));
            body(module);
            module.text.close();
        }
        module.text.close();
        Ok(grid)
    }

    /// The workgroup's number, as an expression.
    pub fn number(&self) -> String {
        if self.y > 1 { format!("(group.y * {}u + group.x)", self.x) } else { "group.x".to_string() }
    }
}

/// Ends the surplus invocations.
fn leave(module: &mut Module<'_>, name: &str, count: u64) {
    module.text.open(format!("if ({name} >= {count}u)"));
    module.text.line("return;");
    module.text.close();
}

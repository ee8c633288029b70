//! `schedule`: from a graph to a program with one kernel an operation.
//!
//! Before: `%3 = add %1 %2`. After: a map kernel that loads both operands, adds, and writes a buffer of `%3`'s shape.
//! View operations make no kernel: they become part of their users' accesses ([`crate::view`]). One-element constants
//! become constants of the functions that use them. What depends on a recurrence and it on that becomes a loop: the
//! recurrence's value at an index is a load of the slice before. Outputs are written by a kernel of their own, which turns every NaN
//! into the one NaN that a caller may see (LN1 section 2); fusion then joins it with its producer.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use loom_ir::graph::{ContractAxes, Graph, Node, NodeId, Op, ReduceKind};
use loom_ir::kernel::scalar::{CompareOp, Inst, ScalarFn, ScalarFnBuilder, Value};
use loom_ir::kernel::{
    Access, Arg, Body, Buffer, BufferId, BufferKind, Contract, Gather, Kernel, Lambda, Program, Reduce, ReduceOp, Stage,
};
use loom_ir::numerics::order;
use loom_ir::numerics::reduction::{IntegerSpec, Products, SumSpec};
use loom_ir::types::{DType, Shape};

use crate::view::View;

/// Makes one kernel an operation. The graph must be verified.
pub fn schedule(graph: &Graph) -> Program {
    let graph = &without_idle_recurrences(graph);
    let mut scheduler = Scheduler {
        graph,
        program: Program { name: graph.name.clone(), buffers: Vec::new(), kernels: Vec::new(), plan: None },
        values: BTreeMap::new(),
        names: BTreeMap::new(),
        in_loop: None,
        carried: BTreeMap::new(),
        target: None,
    };
    let mut loops = 0..;
    for unit in units(graph) {
        if unit.len() > 1 {
            scheduler.in_loop = loops.next();
            scheduler.carry(&unit);
        }
        for id in unit {
            scheduler.node(id);
        }
        scheduler.in_loop = None;
    }
    for (name, id) in graph.outputs() {
        scheduler.output(name, *id);
    }
    scheduler.program
}

/// What the scheduler knows of a node's value.
#[derive(Debug, Clone)]
enum Known {
    /// It lies in a buffer.
    View(View),
    /// All elements have these bits.
    Splat(u32),
}

/// The graph with recurrences that carry nothing, or nothing but their start, as the start repeated: those of at most one
/// step, and those of themselves.
fn without_idle_recurrences(graph: &Graph) -> Cow<'_, Graph> {
    let idle = |id: &NodeId| match graph.node(*id).op {
        Op::Recur(steps) => steps <= 1 || graph.operands(*id)[1] == *id,
        _ => false,
    };
    let recurrences: Vec<NodeId> = graph.topological().into_iter().filter(idle).collect();
    let mut result = Cow::Borrowed(graph);
    for id in recurrences {
        let Node { ty, origin, .. } = graph.node(id).clone();
        let repeat = Op::Broadcast { axes: (1..ty.shape.rank()).collect(), shape: ty.shape };
        let init = result.operands(id)[0];
        match result.to_mut().add(repeat, &[init], &origin) {
            Ok(start) => {
                result.to_mut().replace(id, start);
                result.to_mut().remove(id);
            }
            Err(error) => unreachable!("a start fits its recurrence: {error}"),
        }
    }
    result
}

/// The nodes one by one, those of a recurrence together: operands before users, among units that are ready the one whose
/// first node comes first in topological order.
fn units(graph: &Graph) -> Vec<Vec<NodeId>> {
    let order = graph.topological();
    if !order.iter().any(|&id| matches!(graph.node(id).op, Op::Recur(_))) {
        return order.into_iter().map(|id| vec![id]).collect();
    }
    let mut cycles: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    let mut first_of: BTreeMap<NodeId, NodeId> = order.iter().map(|&id| (id, id)).collect();
    for cycle in graph.cycles() {
        first_of.extend(cycle.iter().map(|&id| (id, cycle[0])));
        cycles.insert(cycle[0], cycle);
    }
    // How many edges lead into each unit, and where its own lead.
    let mut waiting: BTreeMap<NodeId, usize> = first_of.values().map(|&first| (first, 0)).collect();
    let mut users: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for &id in &order {
        for operand in graph.operands(id) {
            let (from, to) = (first_of[&operand], first_of[&id]);
            if from != to {
                *waiting.entry(to).or_default() += 1;
                users.entry(from).or_default().push(to);
            }
        }
    }
    let places: BTreeMap<NodeId, usize> = order.iter().enumerate().map(|(place, &id)| (id, place)).collect();
    let mut ready: BTreeSet<(usize, NodeId)> =
        waiting.iter().filter(|&(_, &count)| count == 0).map(|(&first, _)| (places[&first], first)).collect();
    let mut units = Vec::new();
    while let Some((_, first)) = ready.pop_first() {
        units.push(cycles.remove(&first).unwrap_or_else(|| vec![first]));
        for user in users.remove(&first).unwrap_or_default() {
            if let Some(count) = waiting.get_mut(&user) {
                *count -= 1;
                if *count == 0 {
                    ready.insert((places[&user], user));
                }
            }
        }
    }
    units
}

/// Each slice of a view along its first axis moved up by one; before the first, `fill`.
fn delay(view: &View, shape: &Shape, fill: u32) -> Option<View> {
    let rank = shape.rank();
    let kept = shape.dims()[0] - 1;
    let ends = [&[kept], &shape.dims()[1..]].concat();
    let all_but_last = Op::Slice { starts: vec![0; rank], ends: ends.clone(), steps: vec![1; rank] };
    let mut low = vec![0; rank];
    low[0] = 1;
    let after_fill = Op::Pad { low, high: vec![0; rank], value: fill };
    view.apply(&all_but_last, &Shape::from(ends))?.apply(&after_fill, shape)
}

struct Scheduler<'a> {
    graph: &'a Graph,
    program: Program,
    values: BTreeMap<NodeId, Known>,
    names: BTreeMap<String, usize>,
    /// The loop that is being scheduled.
    in_loop: Option<u32>,
    /// The buffers of values that a loop carries from one index to the next, which are read before the kernel that
    /// writes them is there.
    carried: BTreeMap<NodeId, BufferId>,
    /// The one of these that the next kernel writes.
    target: Option<BufferId>,
}

impl Scheduler<'_> {
    fn node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let operands = self.graph.operands(id);
        if !node.op.is_view() && !matches!(node.op, Op::Recur(_)) {
            self.target = self.carried.remove(&id);
        }
        let known = match &node.op {
            Op::Input(name) => self.leaf(name.clone(), node, BufferKind::Input),
            Op::Weight(name) => self.leaf(name.clone(), node, BufferKind::Weight),
            Op::Codes(name, format) => self.leaf(name.clone(), node, BufferKind::Codes(*format)),
            Op::Constant(bits) => match **bits {
                [bits] => Known::Splat(bits),
                _ => {
                    let name = self.unique(format!("{}:constant", node.origin));
                    self.leaf(name, node, BufferKind::Constant(bits.to_vec()))
                }
            },
            Op::Iota if node.ty.shape.elements() == 1 => Known::Splat(0),
            Op::Iota => {
                let index = Lambda::identity(Arg::Index(0), DType::U32);
                Known::View(self.kernel(node, "iota", node.ty.shape.dims().to_vec(), Vec::new(), Body::Map(index)))
            }
            // The fill of a window or padding may differ from the value inside.
            Op::Pad { .. } | Op::Window(_) => self.view(node, operands[0]),
            op if op.is_view() => match self.values[&operands[0]] {
                Known::Splat(bits) => Known::Splat(bits),
                Known::View(_) => self.view(node, operands[0]),
            },
            Op::Contract(axes) => self.contract(node, axes, &operands),
            Op::Recur(_) => self.recur(node, operands[0], operands[1]),
            Op::Reduce { op, axes } => self.reduce(node, *op, axes, operands[0]),
            Op::Gather => self.gather(node, operands[0], operands[1]),
            _ => self.map(node, &operands),
        };
        self.values.insert(id, known);
        // A value that is carried lies in the buffer that its readers know, be it by a copy.
        if self.carried.contains_key(&id) {
            self.copied(id);
        }
    }

    /// Buffers for all values that the recurrences of a cycle carry.
    fn carry(&mut self, cycle: &[NodeId]) {
        for &id in cycle {
            let node = self.graph.node(id);
            if let (Op::Recur(_), Some(&after)) = (&node.op, self.graph.operands(id).get(1))
                && !self.carried.contains_key(&after)
            {
                let name = self.unique(format!("{}:carried", node.origin));
                let buffer = self.buffer(name, node.ty.dtype, &node.ty.shape, BufferKind::Temp);
                self.carried.insert(after, buffer);
            }
        }
    }

    /// The slice before each one, and `init` before the first.
    fn recur(&mut self, node: &Node, init: NodeId, after: NodeId) -> Known {
        let before = match (self.carried.get(&after), self.values.get(&after)) {
            (Some(&buffer), _) => View::whole(buffer, &node.ty.shape),
            (None, Some(Known::View(view))) => view.clone(),
            (None, Some(Known::Splat(_))) => self.copied(after),
            (None, None) => unreachable!("what a recurrence carries is known before it, or carried"),
        };
        let fill = match self.values[&init] {
            Known::Splat(bits) => Some(bits),
            Known::View(_) => None,
        };
        let delayed = delay(&before, &node.ty.shape, fill.unwrap_or(0)).unwrap_or_else(|| {
            let whole = self.copied(after);
            match delay(&whole, &node.ty.shape, fill.unwrap_or(0)) {
                Some(view) => view,
                None => unreachable!("a plain buffer can be delayed"),
            }
        });
        if fill.is_some() {
            return Known::View(delayed);
        }
        let rank = node.ty.shape.rank();
        let Known::View(init) = &self.values[&init] else { unreachable!("a splat is a fill") };
        let places: Vec<usize> = (1..rank).collect();
        let all: Vec<usize> = (0..rank).collect();
        let loads = vec![init.over(&places, rank), delayed.over(&all, rank)];
        let mut b = ScalarFnBuilder::new();
        let [first, later] = [node.ty.dtype; 2].map(|dtype| b.param(dtype));
        let index = b.param(DType::U32);
        let zero = b.inst(Inst::Const(DType::U32, 0));
        let at_first = b.inst(Inst::Compare(CompareOp::Eq, index, zero));
        let result = b.select(at_first, first, later);
        let args = vec![Arg::Load(0), Arg::Load(1), Arg::Index(0)];
        let lambda = Lambda { args, function: b.finish(result) };
        Known::View(self.kernel(node, "recur", node.ty.shape.dims().to_vec(), loads, Body::Map(lambda)))
    }

    fn leaf(&mut self, name: String, node: &Node, kind: BufferKind) -> Known {
        let buffer = self.buffer(name, node.ty.dtype, &node.ty.shape, kind);
        Known::View(View::whole(buffer, &node.ty.shape))
    }

    fn view(&mut self, node: &Node, operand: NodeId) -> Known {
        let view = match &self.values[&operand] {
            Known::View(view) => view.apply(&node.op, &node.ty.shape).filter(|view| self.keeps_slices(view, node)),
            Known::Splat(_) => None,
        };
        let view = view.or_else(|| self.copied(operand).apply(&node.op, &node.ty.shape));
        match view {
            Some(view) => Known::View(view),
            None => unreachable!("every view operation applies to a plain buffer"),
        }
    }

    /// Whether a view of what a loop writes still has the loop's index as its first coordinate.
    fn keeps_slices(&self, view: &View, node: &Node) -> bool {
        let written = |kernel: &&Kernel| kernel.output.buffer == view.access.buffer;
        let by_loop = || self.program.kernels.iter().rev().take_while(|kernel| kernel.in_loop == self.in_loop);
        if self.in_loop.is_none() || !by_loop().any(|kernel| written(&kernel)) {
            return true;
        }
        let first = view.access.coords.first().zip(view.access.shape.dims().first());
        first.is_some_and(|(coord, steps)| coord.as_axis() == Some(0) && node.ty.shape.dims().first() == Some(steps))
    }

    /// The operand's value in a plain buffer of its own, from now on.
    fn copied(&mut self, id: NodeId) -> View {
        let node = self.graph.node(id);
        let (lambda, loads) = self.elementwise(&[id], node.ty.shape.rank(), |_, args| args[0]);
        self.target = self.carried.remove(&id);
        let view = self.kernel(node, "copy", node.ty.shape.dims().to_vec(), loads, Body::Map(lambda));
        self.values.insert(id, Known::View(view.clone()));
        view
    }

    fn map(&mut self, node: &Node, operands: &[NodeId]) -> Known {
        let (lambda, loads) = self.elementwise(operands, node.ty.shape.rank(), |b, args| {
            b.inst(match node.op {
                Op::Unary(op) => Inst::Unary(op, args[0]),
                Op::Binary(op) => Inst::Binary(op, args[0], args[1]),
                Op::Compare(op) => Inst::Compare(op, args[0], args[1]),
                Op::Select => Inst::Select(args[0], args[1], args[2]),
                Op::Convert(dtype) => Inst::Convert(dtype, args[0]),
                _ => unreachable!("`{}` is no elementwise operation", node.op.name()),
            })
        });
        let axes = node.ty.shape.dims().to_vec();
        Known::View(self.kernel(node, node.op.name(), axes, loads, Body::Map(lambda)))
    }

    /// A lambda over operands whose axes are the kernel's own.
    fn elementwise(
        &self,
        operands: &[NodeId],
        axes: usize,
        body: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value,
    ) -> (Lambda, Vec<Access>) {
        let mut loads = Vec::new();
        let places: Vec<usize> = (0..axes).collect();
        let lambda = self.lambda(operands, &places, axes, &mut loads, body);
        (lambda, loads)
    }

    /// A lambda over operands: axis `i` of each is the kernel's axis `places[i]`, among `count`.
    fn lambda(
        &self,
        operands: &[NodeId],
        places: &[usize],
        count: usize,
        loads: &mut Vec<Access>,
        body: impl FnOnce(&mut ScalarFnBuilder, &[Value]) -> Value,
    ) -> Lambda {
        let mut b = ScalarFnBuilder::new();
        let mut args = Vec::new();
        // Parameters first, one a distinct load.
        let mut values = Vec::new();
        for &operand in operands {
            let Known::View(view) = &self.values[&operand] else {
                values.push(None);
                continue;
            };
            let access = view.over(places, count);
            let load = loads.iter().position(|known| *known == access).unwrap_or_else(|| {
                loads.push(access);
                loads.len() - 1
            });
            let arg = Arg::Load(load as u32);
            let value = args.iter().position(|&known| known == arg).map(|index| Value(index as u32));
            values.push(Some(value.unwrap_or_else(|| {
                args.push(arg);
                b.param(self.graph.ty(operand).dtype)
            })));
        }
        let values: Vec<Value> = values
            .into_iter()
            .zip(operands)
            .map(|(value, operand)| match (value, &self.values[operand]) {
                (None, Known::Splat(bits)) => b.inst(Inst::Const(self.graph.ty(*operand).dtype, (*bits).into())),
                (Some(value), _) => value,
                (None, Known::View(_)) => unreachable!("a view got its parameter above"),
            })
            .collect();
        let result = body(&mut b, &values);
        Lambda { args, function: b.finish(result) }
    }

    fn reduce(&mut self, node: &Node, kind: ReduceKind, reduced: &[usize], operand: NodeId) -> Known {
        let shape = self.graph.shape(operand).clone();
        let dtype = node.ty.dtype;
        let kept: Vec<usize> = (0..shape.rank()).filter(|axis| !reduced.contains(axis)).collect();
        // The kernel's axes: those that stay, then the reduced ones.
        let permutation: Vec<usize> = kept.iter().chain(reduced).copied().collect();
        let mut places = vec![0; shape.rank()];
        for (place, &axis) in permutation.iter().enumerate() {
            places[axis] = place;
        }
        let order = order::of(dtype);
        let (op, to, from) = match kind {
            ReduceKind::Sum => (ReduceOp::Sum(SumSpec::default()), None, None),
            ReduceKind::Max => {
                (ReduceOp::Max, order.map(|order| &order.max_key), order.map(|order| &order.from_max_key))
            }
            ReduceKind::Min => {
                (ReduceOp::Min, order.map(|order| &order.min_key), order.map(|order| &order.from_min_key))
            }
        };
        let mut loads = Vec::new();
        let input = self.lambda(&[operand], &places, shape.rank(), &mut loads, |b, args| match to {
            Some(key) => b.call(key, &[args[0]]),
            None => args[0],
        });
        let function = from.cloned().unwrap_or_else(|| ScalarFn::identity(dtype));
        let body = Body::Reduce(Reduce {
            reduced: reduced.len(),
            stages: vec![Stage { input, op }],
            result: Lambda { args: vec![Arg::Reduced(0)], function },
            per_element: false,
        });
        let axes = permutation.iter().map(|&axis| shape.dims()[axis]).collect();
        Known::View(self.kernel(node, kind.name(), axes, loads, body))
    }

    fn contract(&mut self, node: &Node, axes: &ContractAxes, operands: &[NodeId]) -> Known {
        let (lhs, rhs) = (self.graph.shape(operands[0]).clone(), self.graph.shape(operands[1]).clone());
        let rows = ContractAxes::free(lhs.rank(), &axes.lhs_batch, &axes.lhs_reduced);
        let columns = ContractAxes::free(rhs.rank(), &axes.rhs_batch, &axes.rhs_reduced);
        let (batch, reduced) = (axes.lhs_batch.len(), axes.lhs_reduced.len());
        let output = batch + rows.len() + columns.len();
        let count = output + reduced;
        let places = |rank: usize, own_batch: &[usize], free: &[usize], first: usize, own_reduced: &[usize]| {
            let mut places = vec![0; rank];
            for (i, &axis) in own_batch.iter().enumerate() {
                places[axis] = i;
            }
            for (i, &axis) in free.iter().enumerate() {
                places[axis] = first + i;
            }
            for (i, &axis) in own_reduced.iter().enumerate() {
                places[axis] = output + i;
            }
            places
        };
        let lhs_places = places(lhs.rank(), &axes.lhs_batch, &rows, batch, &axes.lhs_reduced);
        let rhs_places = places(rhs.rank(), &axes.rhs_batch, &columns, batch + rows.len(), &axes.rhs_reduced);
        let mut loads = Vec::new();
        let left = self.lambda(&operands[..1], &lhs_places, count, &mut loads, |_, args| args[0]);
        let right = self.lambda(&operands[1..], &rhs_places, count, &mut loads, |_, args| args[0]);
        let mut extents = node.ty.shape.dims().to_vec();
        extents.extend(axes.lhs_reduced.iter().map(|&axis| lhs.dims()[axis]));
        let products = match node.ty.dtype {
            DType::F32 => Products::default(),
            _ => Products::Integer(IntegerSpec::default()),
        };
        let body = Body::Contract(Contract {
            batch,
            rows: rows.len(),
            columns: columns.len(),
            lhs: left,
            rhs: right,
            products,
            epilogue: Lambda::identity(Arg::Reduced(0), products.dtype()),
        });
        Known::View(self.kernel(node, "contract", extents, loads, body))
    }

    fn gather(&mut self, node: &Node, table: NodeId, indices: NodeId) -> Known {
        let rows = self.graph.shape(table).dims()[0];
        let outer = self.graph.shape(indices).rank();
        // The result's axes, then the table's rows.
        let axes: Vec<u64> = node.ty.shape.dims().iter().copied().chain([rows]).collect();
        let (count, last) = (axes.len(), axes.len() - 1);
        let mut loads = Vec::new();
        let places: Vec<usize> = (0..outer).collect();
        let index = self.lambda(&[indices], &places, count, &mut loads, |_, args| args[0]);
        let places: Vec<usize> = [last].into_iter().chain(outer..last).collect();
        let result = self.lambda(&[table], &places, count, &mut loads, |_, args| args[0]);
        Known::View(self.kernel(node, "gather", axes, loads, Body::Gather(Gather { index, result })))
    }

    fn output(&mut self, name: &str, id: NodeId) {
        let node = self.graph.node(id);
        let dtype = node.ty.dtype;
        let (lambda, loads) = self.elementwise(&[id], node.ty.shape.rank(), |b, args| match order::of(dtype) {
            Some(order) => b.call(&order.canonical_nan, &[args[0]]),
            None => args[0],
        });
        let axes = node.ty.shape.dims().to_vec();
        let buffer = self.buffer(name.to_string(), dtype, &node.ty.shape, BufferKind::Output);
        let name = self.unique(format!("{name}:store"));
        let output = Access::identity(buffer, node.ty.shape.clone(), axes.len());
        self.program.kernels.push(Kernel { name, axes, loads, body: Body::Map(lambda), output, in_loop: None });
    }

    /// Adds a kernel that writes a buffer of the node's type, whose axes are its first ones.
    fn kernel(&mut self, node: &Node, what: &str, axes: Vec<u64>, loads: Vec<Access>, body: Body) -> View {
        let name = self.unique(format!("{}:{what}", node.origin));
        let buffer = match self.target.take() {
            Some(buffer) => buffer,
            None => self.buffer(name.clone(), node.ty.dtype, &node.ty.shape, BufferKind::Temp),
        };
        let output = Access::identity(buffer, node.ty.shape.clone(), axes.len());
        self.program.kernels.push(Kernel { name, axes, loads, body, output, in_loop: self.in_loop });
        View::whole(buffer, &node.ty.shape)
    }

    fn buffer(&mut self, name: String, dtype: DType, shape: &Shape, kind: BufferKind) -> BufferId {
        self.program.buffers.push(Buffer { name, dtype, shape: shape.clone(), kind });
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    /// The name itself the first time, then `name.2`, `name.3` and so on.
    fn unique(&mut self, name: String) -> String {
        let count = self.names.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { name } else { format!("{name}.{count}") }
    }
}

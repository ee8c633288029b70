//! Composition of view operations into accesses.
//!
//! A [`View`] says where the elements of a graph value lie: an access whose axes are the value's own. Broadcasts,
//! transposes, slices, windows and most reshapes of a view are views again. Where one isn't (a padding around a view
//! that already fills with another value, a reshape across axes that do not lie together) there is `None`, and the
//! scheduler copies the value into a buffer of its own first.

use loom_ir::graph::{Op, Window};
use loom_ir::kernel::{Access, Affine, BufferId, Guard};
use loom_ir::types::Shape;

/// Where the elements of a value of this shape lie.
#[derive(Debug, Clone)]
pub struct View {
    /// The value's shape.
    pub shape: Shape,
    /// An access over the value's axes.
    pub access: Access,
}

impl View {
    /// A value that has a buffer to itself.
    pub fn whole(buffer: BufferId, shape: &Shape) -> View {
        View { shape: shape.clone(), access: Access::identity(buffer, shape.clone(), shape.rank()) }
    }

    /// The view that a view operation makes of this one.
    pub fn apply(&self, op: &Op, result: &Shape) -> Option<View> {
        let view = self.composed(op, result)?;
        // Backends rely on bounds that can be proved. Where they can't any more, a copy starts afresh.
        view.access.check(result.dims(), view.access.shape.elements()).is_ok().then_some(view)
    }

    fn composed(&self, op: &Op, result: &Shape) -> Option<View> {
        match op {
            Op::Broadcast { axes, .. } => Some(self.broadcast(result, axes)),
            Op::Transpose(permutation) => Some(self.transpose(result, permutation)),
            Op::Slice { starts, steps, .. } => Some(self.slice(result, starts, steps)),
            Op::Pad { low, value, .. } => self.pad(result, low, *value),
            Op::Window(window) => self.window(result, window),
            Op::Reshape(_) => self.reshape(result),
            _ => None,
        }
    }

    /// The access over a kernel's axes: `axes[i]` is where this view's axis `i` goes, among `count`.
    pub fn over(&self, axes: &[usize], count: usize) -> Access {
        let axes: Vec<Affine> = axes.iter().map(|&axis| Affine::axis(axis, count)).collect();
        self.access.substitute(&axes, count)
    }

    fn substitute(&self, result: &Shape, axes: &[Affine]) -> View {
        View { shape: result.clone(), access: self.access.substitute(axes, result.rank()) }
    }

    fn broadcast(&self, result: &Shape, axes: &[usize]) -> View {
        let rank = result.rank();
        let axes: Vec<Affine> = axes
            .iter()
            .zip(self.shape.dims())
            .map(|(&axis, &dim)| if dim == 1 { Affine::constant(0, rank) } else { Affine::axis(axis, rank) })
            .collect();
        self.substitute(result, &axes)
    }

    fn transpose(&self, result: &Shape, permutation: &[usize]) -> View {
        let mut axes = vec![Affine::constant(0, result.rank()); permutation.len()];
        for (to, &from) in permutation.iter().enumerate() {
            axes[from] = Affine::axis(to, result.rank());
        }
        self.substitute(result, &axes)
    }

    fn slice(&self, result: &Shape, starts: &[u64], steps: &[u64]) -> View {
        let axes: Vec<Affine> =
            (0..result.rank()).map(|axis| stepped(axis, result, steps[axis]).shifted(starts[axis] as i64)).collect();
        self.substitute(result, &axes)
    }

    /// Adds guards `0 <= axes[i] < dims[i]` where the expression can leave the axis.
    fn guarded(&self, result: &Shape, axes: &[Affine], fill: u32) -> Option<View> {
        let mut view = self.substitute(result, axes);
        let guards: Vec<Guard> = axes
            .iter()
            .zip(self.shape.dims())
            .filter(|&(axis, &dim)| {
                let range = if result.dims().contains(&0) { Some((0, 0)) } else { axis.range(result.dims()) };
                range.is_none_or(|(low, high)| low < 0 || high >= dim as i64)
            })
            .map(|(axis, &dim)| Guard { expr: axis.clone(), extent: dim })
            .collect();
        // One access has one fill: a second kind of border needs a buffer in between.
        if guards.is_empty() {
            return Some(view);
        }
        if !view.access.guards.is_empty() && view.access.fill != fill {
            return None;
        }
        view.access.fill = fill;
        view.access.guards.extend(guards);
        Some(view)
    }

    fn pad(&self, result: &Shape, low: &[u64], value: u32) -> Option<View> {
        let axes: Vec<Affine> =
            (0..result.rank()).map(|axis| Affine::axis(axis, result.rank()).shifted(-(low[axis] as i64))).collect();
        self.guarded(result, &axes, value)
    }

    fn window(&self, result: &Shape, window: &Window) -> Option<View> {
        let (rank, count) = (self.shape.rank(), result.rank());
        let mut axes: Vec<Affine> = (0..rank).map(|axis| Affine::axis(axis, count)).collect();
        for (i, &axis) in window.axes.iter().enumerate() {
            let position = stepped(axis, result, window.stride[i]);
            let inside = stepped(rank + i, result, window.dilation[i]);
            axes[axis] = position.plus(&inside).shifted(-(window.low[i] as i64));
        }
        self.guarded(result, &axes, window.fill)
    }

    fn reshape(&self, result: &Shape) -> Option<View> {
        if result.dims().contains(&0) || self.shape.dims().contains(&0) {
            // Nothing is ever read.
            let axes = vec![Affine::constant(0, result.rank()); self.shape.rank()];
            return Some(self.substitute(result, &axes));
        }
        // Groups of neighbouring axes with equal products, old and new.
        let groups = groups(self.shape.dims(), result.dims())?;
        let mut access = self.access.clone();
        let mut dims = self.shape.dims().to_vec();
        // Merge each old group into one axis, from the back so that earlier numbers stay.
        for (old, _) in groups.iter().rev() {
            let axes: Vec<usize> = old.clone().collect();
            if axes.len() > 1 {
                access = merge(&access, &dims, old.clone())?;
                let product = dims[old.clone()].iter().product();
                dims.splice(old.clone(), [product]);
            }
        }
        // Now every group is one old axis (or none, where all new extents are 1): split it.
        let count = result.rank();
        let mut substitution = Vec::new();
        for (old, new) in &groups {
            if old.is_empty() {
                continue;
            }
            let mut whole = Affine::constant(0, count);
            let mut stride = 1i64;
            for axis in new.clone().rev() {
                whole.coefficients[axis] = if result.dims()[axis] == 1 { 0 } else { stride };
                stride *= result.dims()[axis] as i64;
            }
            substitution.push(whole);
        }
        let split = access.substitute(&substitution, count);
        Some(View { shape: result.clone(), access: refine_shape(split, result) })
    }
}

/// An axis of the result in steps. The step of an axis of extent 1 is never taken, and may be of any size.
fn stepped(axis: usize, result: &Shape, step: u64) -> Affine {
    let moves = result.dims()[axis] != 1;
    Affine::axis(axis, result.rank()).scaled(if moves { step as i64 } else { 1 })
}

type Groups = Vec<(std::ops::Range<usize>, std::ops::Range<usize>)>;

/// Cuts two lists of extents of one product into the shortest runs with equal products.
fn groups(old: &[u64], new: &[u64]) -> Option<Groups> {
    let mut groups = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        let (start_i, start_j) = (i, j);
        let (mut left, mut right) = (1u64, 1u64);
        loop {
            if left == right && (i > start_i || j > start_j) {
                break;
            }
            if left <= right && i < old.len() {
                left *= old[i];
                i += 1;
            } else if j < new.len() {
                right *= new[j];
                j += 1;
            } else {
                return None;
            }
        }
        // An old axis of extent 1 with no new partner, or the other way round, makes a group of its own.
        groups.push((start_i..i, start_j..j));
    }
    Some(groups)
}

/// The access over axes where those in `group` have become one.
fn merge(access: &Access, dims: &[u64], group: std::ops::Range<usize>) -> Option<Access> {
    let count = dims.len() - group.len() + 1;
    let merged = |affine: &Affine| -> Option<Affine> {
        // Row-major over the group: each coefficient is the next one's times the next extent. An axis of extent 1
        // never moves, so its coefficient does not matter.
        let mut last = None;
        let mut stride = 1i64;
        for axis in group.clone().rev() {
            if dims[axis] == 1 {
                continue;
            }
            let coefficient = affine.coefficients[axis];
            match last {
                None => last = Some(coefficient),
                Some(last) if last.checked_mul(stride) == Some(coefficient) => {}
                Some(_) => return None,
            }
            stride *= dims[axis] as i64;
        }
        let mut coefficients = affine.coefficients.clone();
        coefficients.splice(group.clone(), [last.unwrap_or(0)]);
        debug_assert_eq!(coefficients.len(), count);
        Some(Affine { offset: affine.offset, coefficients })
    };
    let guards: Option<Vec<Guard>> =
        access.guards.iter().map(|guard| Some(Guard { expr: merged(&guard.expr)?, extent: guard.extent })).collect();
    let direct: Option<Vec<Affine>> = access.coords.iter().map(merged).collect();
    if let (Some(guards), Some(coords)) = (&guards, direct) {
        return Some(Access { coords, guards: guards.clone(), ..access.clone() });
    }
    // Coordinate by coordinate it doesn't work, but the elements may still lie in order. (With guards, bounds are proved
    // coordinate by coordinate.)
    if !access.guards.is_empty() {
        return None;
    }
    let linear = merged(&access.linear())?;
    let shape = Shape::from([access.shape.elements()]);
    Some(Access { shape, coords: vec![linear], guards: guards?, ..access.clone() })
}

/// Gives the addressed shape back its axes where the access runs through a buffer in plain row-major order, so that
/// later passes recognise it.
fn refine_shape(access: Access, result: &Shape) -> Access {
    let plain = access.guards.is_empty()
        && access.shape.elements() == result.elements()
        && access.linear() == identity_linear(result);
    if plain { Access::identity(access.buffer, result.clone(), result.rank()) } else { access }
}

fn identity_linear(shape: &Shape) -> Affine {
    let strides = shape.strides();
    let coefficients = shape.dims().iter().zip(strides).map(|(&dim, s)| if dim == 1 { 0 } else { s as i64 });
    Affine { offset: 0, coefficients: coefficients.collect() }
}

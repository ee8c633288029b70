//! Buffers at the lowest free places, in a given order.

/// A buffer that wants a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Its number in the program.
    pub buffer: usize,
    /// Its size, a multiple of the alignment.
    pub bytes: u64,
    /// The first and the last kernel in which it is alive.
    pub range: (usize, usize),
}

/// Where the items of a list lie.
#[derive(Debug, Clone, Default)]
pub(super) struct Placement {
    /// For each item its first byte.
    pub offsets: Vec<u64>,
    /// Bytes of the arena.
    pub arena: u64,
    /// The first of the items that end where the arena does.
    pub highest: Option<usize>,
    /// How many pairs of items were kept apart.
    pub pairs: usize,
}

/// Places the items in this order, in a program of so many kernels.
pub(super) fn place(items: &[Item], order: &[usize], kernels: usize) -> Placement {
    let mut placement = Placement { offsets: vec![0; items.len()], ..Placement::default() };
    let mut placed = Ranges::new(kernels);
    let mut apart: Vec<(u64, u64)> = Vec::new();
    for &number in order.iter().filter(|&&number| items[number].bytes > 0) {
        let item = &items[number];
        apart.clear();
        placed.for_each_meeting(item.range, |other| {
            let start = placement.offsets[other];
            apart.push((start, start + items[other].bytes));
        });
        apart.sort_unstable();
        let mut offset = 0;
        for &(start, end) in &apart {
            if offset + item.bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        placement.pairs += apart.len();
        placement.offsets[number] = offset;
        if offset + item.bytes > placement.arena {
            (placement.arena, placement.highest) = (offset + item.bytes, Some(number));
        }
        placed.insert(number, item.range);
    }
    placement
}

/// Ranges of kernels that can be asked for those which meet a range.
struct Ranges {
    /// By first kernel.
    beginning: Vec<Vec<usize>>,
    /// A segment tree: the children of node n are 2n and 2n + 1, and the leaf of kernel k is node k + its number of leaves. A
    /// range is in the fewest nodes that together stand for it.
    covering: Vec<Vec<usize>>,
}

impl Ranges {
    fn new(kernels: usize) -> Ranges {
        Ranges { beginning: vec![Vec::new(); kernels], covering: vec![Vec::new(); 2 * kernels] }
    }

    fn insert(&mut self, number: usize, (first, last): (usize, usize)) {
        self.beginning[first].push(number);
        let leaves = self.beginning.len();
        let (mut low, mut high) = (first + leaves, last + 1 + leaves);
        while low < high {
            if low % 2 == 1 {
                self.covering[low].push(number);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                self.covering[high].push(number);
            }
            (low, high) = (low / 2, high / 2);
        }
    }

    /// Those that the first kernel is in, then those that begin after it.
    fn for_each_meeting(&self, (first, last): (usize, usize), mut body: impl FnMut(usize)) {
        let mut node = first + self.beginning.len();
        while node > 0 {
            self.covering[node].iter().copied().for_each(&mut body);
            node /= 2;
        }
        self.beginning[first + 1..=last].iter().flatten().copied().for_each(&mut body);
    }
}

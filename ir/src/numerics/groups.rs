//! The groups of elements that share a scale.

use crate::types::Shape;

/// How the elements of a tensor, in row-major order, fall into groups: element `i` is in group `i / channel · per_channel +
/// i mod channel / group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Elements of a channel: of one index of the first axis, or all.
    channel: usize,
    /// Elements of a group.
    group: usize,
    /// Groups of a channel.
    per_channel: usize,
    /// Whether all is one group.
    whole: bool,
}

impl Groups {
    /// One group of all elements.
    pub fn tensor(shape: &Shape) -> Groups {
        let all = shape.elements() as usize;
        Groups { channel: all, group: all, per_channel: 1, whole: true }
    }

    /// One group for each index of the first axis; of a tensor of less than two axes, one of all.
    pub fn channels(shape: &Shape) -> Groups {
        Groups::of_size(shape, u64::MAX)
    }

    /// Groups of at most so many elements of each index of the first axis (of a tensor of less than two axes, one of all): as many as that takes, and as even as can be, so
    /// that their number says what they are.
    pub fn of_size(shape: &Shape, size: u64) -> Groups {
        if shape.rank() < 2 {
            return Groups::tensor(shape);
        }
        let channel = Groups::channel_of(shape);
        Groups::of_count(shape, channel.div_ceil(size.clamp(1, channel.max(1))).max(1))
    }

    fn channel_of(shape: &Shape) -> u64 {
        match shape.dims() {
            [channels, _, ..] if *channels > 0 => shape.elements() / channels,
            _ => shape.elements(),
        }
    }

    fn of_count(shape: &Shape, per_channel: u64) -> Groups {
        let channel = Groups::channel_of(shape);
        let group = channel.div_ceil(per_channel.max(1)).max(1);
        Groups { channel: channel as usize, group: group as usize, per_channel: per_channel as usize, whole: false }
    }

    /// The groups that a tensor's scales are for; `None` if the shapes don't belong together.
    pub fn of_scales(shape: &Shape, scales: &Shape) -> Option<Groups> {
        let channels = shape.dims().first().copied().filter(|_| shape.rank() > 1);
        match *scales.dims() {
            [] => Some(Groups::tensor(shape)),
            [found] if Some(found) == channels => Some(Groups::channels(shape)),
            [found, count] if Some(found) == channels && count > 1 => {
                let groups = Groups::of_count(shape, count);
                let used = groups.channel.div_ceil(groups.group);
                (used == groups.per_channel).then_some(groups)
            }
            _ => None,
        }
    }

    /// The scales' shape, for a tensor of this shape.
    pub fn scales(&self, shape: &Shape) -> Shape {
        match shape.dims() {
            [channels, _, ..] if self.per_channel > 1 => Shape::new([*channels, self.per_channel as u64]),
            [channels, _, ..] if !self.whole => Shape::new([*channels]),
            _ => Shape::new([]),
        }
    }

    /// Whether each of these groups of a tensor of that shape lies in one of the groups that scales of this shape are for.
    pub fn divide(&self, shape: &Shape, scales: &Shape) -> bool {
        let own = self.scales(shape);
        scales.rank() == 0 || own == *scales || (scales.rank() == 1 && own.rank() == 2)
    }

    /// A group's first element.
    pub fn first_of(&self, group: usize) -> usize {
        let per_channel = self.per_channel.max(1);
        (group / per_channel) * self.channel + (group % per_channel) * self.group
    }

    /// Whether all elements are one group.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Elements of a channel: of one index of the first axis, or all.
    pub fn channel(&self) -> usize {
        self.channel
    }

    /// Elements of a group, but for a channel's last one.
    pub fn group(&self) -> usize {
        self.group
    }

    /// Groups of a channel.
    pub fn per_channel(&self) -> usize {
        self.per_channel
    }

    /// The group of an element.
    pub fn of_element(&self, index: usize) -> usize {
        let (channel, within) = match self.channel {
            0 => (0, 0),
            size => (index / size, index % size),
        };
        channel * self.per_channel + within / self.group.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let shape = Shape::from([2, 5, 2]);
        let groups = Groups::of_size(&shape, 4);
        assert_eq!(groups.scales(&shape), Shape::from([2, 3]));
        let found: Vec<usize> = (0..20).map(|index| groups.of_element(index)).collect();
        assert_eq!(found, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5]);
        assert_eq!(Groups::channels(&shape).scales(&shape), Shape::from([2]));
        assert_eq!(Groups::tensor(&shape).scales(&shape), Shape::from([]));
        let row = Shape::from([7]);
        let alone = Groups::of_size(&row, 7);
        assert_eq!((alone.scales(&row), alone.of_element(6)), (Shape::from([]), 0));
    }

    #[test]
    fn scales_say_what_the_groups_are() {
        for dims in
            [vec![], vec![1], vec![6], vec![1, 1], vec![3, 10], vec![2, 5, 4], vec![4, 785], vec![0, 3], vec![3, 0]]
        {
            let shape = Shape::new(dims);
            let sized = (1..40).map(|size| Groups::of_size(&shape, size));
            for groups in sized.chain([Groups::tensor(&shape), Groups::channels(&shape)]) {
                let scales = groups.scales(&shape);
                let found = Groups::of_scales(&shape, &scales).expect("scales of the same groups");
                for index in 0..shape.elements() as usize {
                    assert_eq!(found.of_element(index), groups.of_element(index), "{shape} {scales} {index}");
                    assert!((groups.of_element(index) as u64) < scales.elements(), "{shape} {scales} {index}");
                }
            }
        }
        let shape = Shape::from([2, 10]);
        for wrong in [[2, 1], [2, 6], [2, 11], [3, 2], [2, 0]] {
            assert_eq!(Groups::of_scales(&shape, &Shape::from(wrong)), None, "{wrong:?}");
        }
        assert_eq!(Groups::of_scales(&shape, &Shape::from([3])), None);
        assert_eq!(Groups::of_scales(&Shape::from([3]), &Shape::from([3])), None);
    }
}

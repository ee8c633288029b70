//! Layers that scale, choose, repeat or rearrange elements.

use super::Generator;

/// Enough for odd shapes, few enough for an interpreter.
const MOST_ELEMENTS: u64 = 300;

impl Generator {
    pub(super) fn elementwise(&mut self) -> Option<String> {
        let axis = self.random.below(self.shape.len() as u64) as usize;
        let extent = self.shape[axis];
        // Counted from either end.
        let counted = if self.random.below(2) == 0 { axis as i64 } else { axis as i64 - self.shape.len() as i64 };
        match self.random.below(5) {
            0 => Some(match self.random.below(2) {
                0 => r#"{"type": "scale", "factor": -1.7}"#.to_string(),
                _ => r#"{"type": "scale", "factor": 0.3, "offset": 0.11}"#.to_string(),
            }),
            1 => {
                let norm = ["l1", "l2"][self.random.below(2) as usize];
                Some(format!(r#"{{"type": "normalize", "norm": "{norm}", "axis": {counted}, "epsilon": 0.01}}"#))
            }
            2 if extent > 0 => {
                let start = self.random.below(extent);
                let end = start + 1 + self.random.below(extent - start);
                self.shape[axis] = end - start;
                Some(format!(r#"{{"type": "slice", "axis": {counted}, "start": {start}, "end": {end}}}"#))
            }
            3 => {
                // The axes the other way round: the elements stay in their order.
                self.shape.reverse();
                Some(format!(r#"{{"type": "reshape", "shape": {:?}}}"#, self.shape))
            }
            4 => {
                let repeats = 2 + self.random.below(2);
                let mut shape = self.shape.clone();
                match shape.iter().position(|&extent| extent == 1) {
                    Some(axis) => shape[axis] = repeats,
                    None if shape.len() < 3 => shape.insert(0, repeats),
                    None => return None,
                }
                if shape.iter().product::<u64>() > MOST_ELEMENTS {
                    return None;
                }
                self.shape = shape;
                Some(format!(r#"{{"type": "broadcast", "shape": {:?}}}"#, self.shape))
            }
            _ => None,
        }
    }
}

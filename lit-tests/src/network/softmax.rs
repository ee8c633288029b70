//! Softmax layers of every variant.

use super::Generator;

impl Generator {
    pub(super) fn softmax(&mut self) -> String {
        let rank = self.shape.len();
        let place = self.random.below(rank as u64) as usize;
        let axis = place as i64 - rank as i64;
        let temperature = ["1.0", "0.7", "2.0"][self.random.below(3) as usize];
        let variant = self.variant(place);
        format!(r#"{{"type": "softmax", "temperature": {temperature}, "axis": {axis}{variant}}}"#)
    }

    /// A variant that fits the axis, with its options; the shape becomes that of the result.
    fn variant(&mut self, axis: usize) -> String {
        let extent = self.shape[axis];
        // The largest divisor that is less than the extent, or 1.
        let part = (1..extent).rev().find(|part| extent.is_multiple_of(*part)).unwrap_or(1);
        let options = match self.random.below(14) {
            0 => format!(r#""grid", "softmax_rows": {}, "softmax_cols": {part}"#, extent / part),
            1 => format!(r#""hierarchical", "hierarchy_levels": [{}, {part}]"#, extent / part),
            // 2 inner nodes and twice as many leaves as each has.
            2 if extent > 2 && extent.is_multiple_of(2) => {
                self.shape[axis] = extent - 2;
                format!(r#""hierarchical", "hierarchy_levels": [2, {}]"#, (extent - 2) / 2)
            }
            3 => r#""gumbel""#.to_string(),
            4 => {
                let mask: Vec<bool> = (0..extent).map(|_| self.random.below(3) > 0).collect();
                format!(r#""masked", "mask": {mask:?}"#)
            }
            5 => r#""sparsemax""#.to_string(),
            6 => r#""entmax""#.to_string(),
            7 => r#""entmax", "entmax_alpha": 1.3"#.to_string(),
            8 if extent > 2 => {
                // A head of one class less than half, and one cluster.
                let (head, classes) = ((extent - 1).div_ceil(2), extent - 1);
                self.shape[axis] = classes;
                let list = |range: std::ops::Range<u64>| format!("{:?}", range.collect::<Vec<u64>>());
                format!(r#""adaptive", "adaptive_clusters": [{}, {}]"#, list(0..head), list(head..classes))
            }
            9 => {
                let parts = extent / part;
                self.shape[axis] = part;
                let weights: Vec<u64> = (1..=parts).collect();
                format!(r#""mixture", "mixture_weights": {weights:?}"#)
            }
            _ => r#""standard""#.to_string(),
        };
        format!(r#", "softmax_variant": {options}"#)
    }
}

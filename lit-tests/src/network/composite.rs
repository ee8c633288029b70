//! Layers that hold others: parallel and kmeans.

use super::Generator;

impl Generator {
    /// `layers`, made with the input that they all have; the shape of each result.
    fn branch(&mut self, make: impl FnOnce(&mut Generator) -> String) -> (String, Vec<u64>) {
        let (shape, entered) = (self.shape.clone(), std::mem::take(&mut self.entered));
        let text = make(self);
        let result = std::mem::replace(&mut self.shape, shape);
        self.entered = entered;
        (text, result)
    }

    pub(super) fn parallel(&mut self, nesting: u64) -> String {
        let count = 1 + self.random.below(4);
        let input = self.shape.clone();
        let mode = self.random.below(6);
        // By element: every branch gives the same shape.
        let size = 1 + self.random.below(7);
        let made: Vec<(String, Vec<u64>)> = (0..count)
            .map(|_| self.branch(|g| if mode < 4 { g.mapped_to(size) } else { g.any_layer(nesting) }))
            .collect();
        let branches: Vec<&str> = made.iter().map(|(text, _)| text.as_str()).collect();
        let branches = branches.join(", ");
        let flat: u64 = made.iter().map(|(_, shape)| shape.iter().product::<u64>()).sum();
        self.shape = made[0].1.clone();
        let options = match mode {
            0 => r#""add""#.to_string(),
            1 => r#""multiply""#.to_string(),
            2 => r#""average""#.to_string(),
            3 => self.filter(&input, count),
            4 => {
                let alike =
                    made.iter().all(|(_, shape)| shape.len() == self.shape.len() && shape[1..] == self.shape[1..]);
                if alike {
                    self.shape[0] = made.iter().map(|(_, shape)| shape[0]).sum();
                } else {
                    self.shape = vec![flat];
                }
                r#""concat""#.to_string()
            }
            _ => {
                self.shape = vec![flat];
                // In the opposite order.
                let cells: Vec<String> = (0..count)
                    .rev()
                    .map(|cell| {
                        let (row, col, layer) = (cell / 4, cell / 2 % 2, cell % 2);
                        format!(r#"{{"target_row": {row}, "target_col": {col}, "target_layer": {layer}}}"#)
                    })
                    .collect();
                let (rows, cells) = (count.div_ceil(4), cells.join(", "));
                format!(
                    r#""grid_scatter", "grid_output_rows": {rows}, "grid_output_cols": 2, "grid_output_layers": 2, "grid_positions": [{cells}]"#
                )
            }
        };
        format!(r#"{{"type": "parallel", "combine_mode": {options}, "branches": [{branches}]}}"#)
    }

    fn mapped_to(&mut self, size: u64) -> String {
        self.shape = vec![size];
        let activation = self.activation();
        format!(
            r#"{{"type": "sequential", "branches": [{{"type": "flatten"}}, {{"type": "dense", "output_size": {size}, "activation": {activation}}}]}}"#
        )
    }

    fn filter(&mut self, input: &[u64], count: u64) -> String {
        let temperature = ["1.0", "0.5"][self.random.below(2) as usize];
        if self.random.below(4) == 0 {
            return format!(r#""filter", "filter_temperature": {temperature}"#);
        }
        let softmax = ["standard", "sparse", "entmax"][self.random.below(3) as usize];
        let top_k = match self.random.below(3) {
            0 => String::new(),
            _ => format!(r#", "filter_top_k": {}"#, 1 + self.random.below(count)),
        };
        let size: u64 = input.iter().product();
        let gate = format!(
            r#"{{"type": "sequential", "branches": [{{"type": "flatten"}}, {{"type": "dense", "input_size": {size}, "output_size": {count}, "activation": "linear"}}]}}"#
        );
        format!(
            r#""filter", "filter_gate": {gate}, "filter_softmax": "{softmax}", "filter_temperature": {temperature}{top_k}"#
        )
    }

    pub(super) fn kmeans(&mut self, nesting: u64) -> String {
        let attached = match self.random.below(4) {
            0 => String::new(),
            kind => {
                let inner = |g: &mut Generator| match nesting.checked_sub(1) {
                    Some(nesting) if kind == 1 => g.kmeans(nesting),
                    _ => g.any_layer(nesting),
                };
                let (text, shape) = self.branch(inner);
                self.shape = shape;
                format!(r#", "attached_layer": {text}"#)
            }
        };
        let clusters = 1 + self.random.below(5);
        let metric = ["squared_euclidean", "euclidean", "manhattan", "cosine"][self.random.below(4) as usize];
        let temperature = ["0.8", "1", "0.3"][self.random.below(3) as usize];
        let output = if self.random.below(2) == 0 {
            let last = self.shape.len() - 1;
            self.shape[last] = clusters;
            "probabilities"
        } else {
            "features"
        };
        format!(
            r#"{{"type": "kmeans", "num_clusters": {clusters}, "distance_metric": "{metric}", "kmeans_output_mode": "{output}", "kmeans_temperature": {temperature}{attached}}}"#
        )
    }
}

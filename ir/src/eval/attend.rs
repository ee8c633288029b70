//! Attention, a row of scores at a time.

use crate::kernel::{Attend, Kernel, Lambda};
use crate::numerics::reduction;

use super::program::{KernelRun, Lanes, combine, for_each_index};

/// Bytes for the operands of one batch, and a row of scores, of terms and of weights.
pub(super) fn scratch_bytes(kernel: &Kernel, attend: &Attend) -> Option<u64> {
    let product = |groups: &[&std::ops::Range<usize>]| {
        let mut extents = groups.iter().flat_map(|group| &kernel.axes[(*group).clone()]);
        extents.try_fold(4u64, |product, &extent| product.checked_mul(extent))
    };
    let [_, rows, columns, keys, inner] = attend.groups(kernel.axes.len());
    let row = product(&[&keys])?.checked_mul(3)?;
    let operands = [product(&[&rows, &inner])?, product(&[&keys, &inner])?, product(&[&columns, &keys])?];
    operands.into_iter().try_fold(row, u64::checked_add)
}

impl KernelRun<'_> {
    pub(super) fn attend(&self, attend: &Attend, output: &mut [u32]) {
        let kernel = self.kernel;
        let place = kernel.output.linear();
        let extents = attend.groups(kernel.axes.len()).map(|group| &kernel.axes[group]);
        let [batch_axes, row_axes, column_axes, key_axes, inner_axes] = extents;
        let [_, _, no_column, no_key, no_inner] = extents.map(|axes| vec![0; axes.len()]);
        let [_, one_row, one_column, one_key, one_inner] = extents.map(|axes| vec![1; axes.len()]);
        let [_, rows, columns, keys, inner] = extents.map(|axes| axes.iter().product::<u64>() as usize);
        // The operands of one batch as plain matrices.
        let mut queries = vec![0; rows * inner];
        let mut key_rows = vec![0; keys * inner];
        let mut values = vec![0; columns * keys];
        let (mut scores, mut terms, mut weights) = (vec![0; keys], vec![0; keys], vec![0; keys]);
        let mut query = Lanes::new(&attend.query);
        let mut key = Lanes::new(&attend.key);
        let mut value = Lanes::new(&attend.value);
        let mut score = Lanes::new(&attend.score);
        let mut result = Lanes::new(&attend.result);
        let contracted = |a: &[u32], b: &[u32]| {
            let pairs = a.iter().zip(b).map(|(&a, &b)| (f32::from_bits(a), f32::from_bits(b)));
            reduction::contract(pairs, attend.spec).to_bits()
        };
        self.for_each_leading(batch_axes, |batch| {
            let matrix = |lanes: &mut Lanes<'_>, axes: [&[u64]; 4], matrix: &mut [u32]| {
                let mut place = 0;
                for_each_index(&axes.concat(), |index| {
                    lanes.push(self, &[batch, index].concat(), &[], place, matrix);
                    place += 1;
                });
                lanes.flush(matrix);
            };
            matrix(&mut query, [row_axes, &one_column, &one_key, inner_axes], &mut queries);
            matrix(&mut key, [&one_row, &one_column, key_axes, inner_axes], &mut key_rows);
            matrix(&mut value, [&one_row, column_axes, key_axes, &one_inner], &mut values);
            let mut row_number = 0;
            for_each_index(row_axes, |row| {
                let own = &queries[row_number * inner..(row_number + 1) * inner];
                row_number += 1;
                let at = |key: &[u64]| [batch, row, &no_column, key, &no_inner].concat();
                let mut number = 0;
                for_each_index(key_axes, |key| {
                    let total = contracted(own, &key_rows[number * inner..(number + 1) * inner]);
                    score.push(self, &at(key), &[total], number, &mut scores);
                    number += 1;
                });
                score.flush(&mut scores);
                let mut reduced = vec![0];
                for stage in &attend.stages {
                    self.of_scores((attend, &stage.input), &scores, &mut reduced, &at, &mut terms);
                    reduced.push(combine(stage, &terms));
                }
                self.of_scores((attend, &attend.weight), &scores, &mut reduced, &at, &mut weights);
                let mut column_number = 0;
                for_each_index(column_axes, |column| {
                    let own = &values[column_number * keys..(column_number + 1) * keys];
                    column_number += 1;
                    reduced[0] = contracted(&weights, own);
                    let index = [batch, row, column, &no_key, &no_inner].concat();
                    result.push(self, &index, &reduced, place.at(&index) as usize - self.first, output);
                });
            });
        });
        result.flush(output);
    }

    /// One element, at an index of the output's axes.
    pub(super) fn attend_element(&self, attend: &Attend, index: &[u64]) -> u32 {
        let axes = &self.kernel.axes;
        let [batch, rows, columns, keys, inner] = attend.groups(axes.len());
        let no_inner = vec![0; inner.len()];
        let row = &index[..batch.len() + rows.len()];
        let no_column = vec![0; columns.len()];
        let float = |lambda: &Lambda, index: &[u64]| f32::from_bits(self.apply(lambda, index, &[]));
        let (mut scores, mut values) = (Vec::new(), Vec::new());
        for_each_index(&axes[keys.clone()], |key| {
            let mut pairs = Vec::new();
            for_each_index(&axes[inner.clone()], |k| {
                let index = [row, &no_column, key, k].concat();
                pairs.push((float(&attend.query, &index), float(&attend.key, &index)));
            });
            let total = reduction::contract(pairs, attend.spec).to_bits();
            scores.push(self.apply(&attend.score, &[row, &no_column, key, &no_inner].concat(), &[total]));
            values.push(float(&attend.value, &[index, key, &no_inner].concat()));
        });
        let at = |key: &[u64]| [row, &no_column, key, &no_inner].concat();
        let (mut reduced, mut terms) = (vec![0], vec![0; scores.len()]);
        for stage in &attend.stages {
            self.of_scores((attend, &stage.input), &scores, &mut reduced, &at, &mut terms);
            reduced.push(combine(stage, &terms));
        }
        self.of_scores((attend, &attend.weight), &scores, &mut reduced, &at, &mut terms);
        let pairs = terms.iter().map(|&bits| f32::from_bits(bits)).zip(values);
        reduced[0] = reduction::contract(pairs, attend.spec).to_bits();
        let whole = [index, &vec![0; keys.len()], &no_inner].concat();
        self.apply(&attend.result, &whole, &reduced)
    }

    /// A function of each score of a row, and of what stages made of them: `reduced`, whose first place is the score's.
    fn of_scores(
        &self,
        (attend, lambda): (&Attend, &Lambda),
        scores: &[u32],
        reduced: &mut [u32],
        at: &dyn Fn(&[u64]) -> Vec<u64>,
        results: &mut [u32],
    ) {
        let [_, _, _, keys, _] = attend.groups(self.kernel.axes.len());
        let mut lanes = Lanes::new(lambda);
        let mut number = 0;
        for_each_index(&self.kernel.axes[keys], |key| {
            reduced[0] = scores[number];
            lanes.push(self, &at(key), reduced, number, results);
            number += 1;
        });
        lanes.flush(results);
    }
}

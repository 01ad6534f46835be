use tch::Tensor;

use super::LoraConfig;
use crate::{Layout, ModelConfig, PolicyError};

/// The projections that can have an adapter.
pub(super) const MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Matrices per layer, in the order of [`Layout`]: qkv, output, gate-up, down.
pub(super) const PER_LAYER: usize = 4;

/// One adapted tensor of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name without `.weight`, as `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Rows of the weight, and of B.
    pub rows: i64,
    /// Columns of the weight, and of A.
    pub columns: i64,
    /// First element of the weight in the model's buffer.
    pub base: i64,
    /// First element of A (rank, columns) in the adapter's buffer.
    pub a: i64,
    /// First element of B (rows, rank) in the adapter's buffer.
    pub b: i64,
}

/// A fused matrix with the adapters beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matrix {
    /// Rows of all its tensors, adapted or not.
    pub(super) rows: i64,
    pub(super) columns: i64,
    /// First row and number of rows of each adapted tensor.
    pub(super) targets: Vec<(i64, i64)>,
    /// First element of the stacked A (targets · rank, columns); the stacked B (adapted rows, rank) follows it.
    offset: i64,
}

impl Matrix {
    /// Rows of all adapted tensors.
    pub(super) fn adapted_rows(&self) -> i64 {
        self.targets.iter().map(|(_, rows)| rows).sum()
    }
}

/// Where each A and B lies in the adapter's flat buffer: per layer and fused matrix all A, then all B, in the order of the
/// model's [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraLayout {
    rank: i64,
    targets: Vec<Target>,
    /// [`PER_LAYER`] for each layer.
    matrices: Vec<Option<Matrix>>,
    numel: i64,
}

impl LoraLayout {
    /// The layout of the adapter that `config` asks for. An error if it would be empty.
    pub fn new(model: &ModelConfig, config: &LoraConfig) -> Result<Self, PolicyError> {
        let layout = Layout::new(model);
        let rank = i64::from(config.rank);
        let mut built = Self { rank, targets: Vec::new(), matrices: Vec::new(), numel: 0 };
        // The embedding comes first.
        for entry in layout.entries().iter().skip(1).take(PER_LAYER * model.layers) {
            built.add(entry, config);
        }
        if built.numel == 0 {
            return Err(PolicyError::Unsupported {
                what: format!("an adapter of rank {rank} for {:?}", config.target_modules.given()),
                hint: format!("a rank of at least 1 and some of {} are", MODULES.join(", ")),
            });
        }
        Ok(built)
    }

    fn add(&mut self, entry: &crate::Entry, config: &LoraConfig) {
        let columns = entry.shape[1];
        let (offset, mut row, mut targets) = (self.numel, 0, Vec::new());
        let mut chosen = Vec::new();
        for part in &entry.parts {
            let module = part.name.strip_suffix(".weight").unwrap_or(&part.name);
            if config.target_modules.contain(module.rsplit('.').next().unwrap_or_default()) {
                targets.push((row, part.rows));
                chosen.push((module.to_owned(), row, part.rows));
            }
            row += part.rows;
        }
        if chosen.is_empty() {
            self.matrices.push(None);
            return;
        }
        let mut a = offset;
        let mut b = offset + chosen.len() as i64 * self.rank * columns;
        for (module, row, rows) in chosen {
            self.targets.push(Target { module, rows, columns, base: entry.offset + row * columns, a, b });
            a += self.rank * columns;
            b += rows * self.rank;
        }
        self.numel = b;
        self.matrices.push(Some(Matrix { rows: row, columns, targets, offset }));
    }

    /// r.
    pub fn rank(&self) -> i64 {
        self.rank
    }

    /// Elements of the buffer.
    pub fn numel(&self) -> i64 {
        self.numel
    }

    /// Every adapted tensor, in the model's order.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The four matrices of a layer.
    pub(super) fn matrices(&self, layer: usize) -> impl Iterator<Item = Option<&Matrix>> {
        self.matrices[PER_LAYER * layer..][..PER_LAYER].iter().map(Option::as_ref)
    }

    /// For every leaf, as [`Self::leaves`] gives them: a module that it serves, and its number of elements. They lie one behind
    /// another.
    pub(crate) fn leaf_sizes(&self) -> impl Iterator<Item = (&str, i64)> {
        let mut targets = self.targets.iter();
        self.matrices.iter().flatten().flat_map(move |matrix| {
            let count = matrix.targets.len();
            // As many targets as all matrices have, so `nth` finds one.
            let module = targets.nth(count - 1).map_or("", |target| target.module.as_str());
            let a = self.rank * count as i64 * matrix.columns;
            [(module, a), (module, matrix.adapted_rows() * self.rank)]
        })
    }

    /// Views into `flat`: for every adapted matrix the stacked A (targets · rank, columns) and the stacked B (adapted rows,
    /// rank).
    pub(crate) fn leaves(&self, flat: &Tensor) -> Result<Vec<Tensor>, PolicyError> {
        let mut leaves = Vec::new();
        for matrix in self.matrices.iter().flatten() {
            let (ranks, rows) = (self.rank * matrix.targets.len() as i64, matrix.adapted_rows());
            let size = ranks * matrix.columns;
            leaves.push(flat.f_narrow(0, matrix.offset, size)?.f_view([ranks, matrix.columns])?);
            leaves.push(flat.f_narrow(0, matrix.offset + size, rows * self.rank)?.f_view([rows, self.rank])?);
        }
        Ok(leaves)
    }
}

use tch::{Device, Kind, Tensor};

use super::layout::Matrix;
use crate::PolicyError;

/// How the B of several tensors, stacked, becomes one matrix for the fused product: B of each tensor in its own rows and in
/// the columns of its own A, times the scale, zero elsewhere. Then one product serves all tensors of a fused matrix.
#[derive(Debug)]
pub(crate) struct Spread {
    /// (adapted rows, targets, 1): the scale where a row is of that target, else 0.
    mask: Tensor,
    /// The adapted rows among all, unless they are all.
    rows: Option<Tensor>,
    /// All rows.
    height: i64,
}

impl Spread {
    pub(super) fn new(matrix: &Matrix, scale: f64, kind: Kind, device: Device) -> Result<Self, PolicyError> {
        let adapted = matrix.adapted_rows();
        let mask = Tensor::f_zeros([adapted, matrix.targets.len() as i64, 1], (kind, device))?;
        let mut numbers = Vec::new();
        for (number, &(first, rows)) in matrix.targets.iter().enumerate() {
            let of_target = mask.f_narrow(0, numbers.len() as i64, rows)?.f_narrow(1, number as i64, 1)?;
            let _ = of_target.shallow_clone().f_fill_(scale)?;
            numbers.extend(first..first + rows);
        }
        let rows = (adapted < matrix.rows).then(|| Tensor::f_from_slice(&numbers)?.f_to_device(device)).transpose()?;
        Ok(Self { mask, rows, height: matrix.rows })
    }

    /// Another handle on the same memory.
    pub(super) fn share(&self) -> Self {
        let rows = self.rows.as_ref().map(Tensor::shallow_clone);
        Self { mask: self.mask.shallow_clone(), rows, height: self.height }
    }

    /// `b`: (adapted rows, r). Returns (all rows, targets · r), differentiable.
    fn apply(&self, b: &Tensor) -> Result<Tensor, PolicyError> {
        let adapted = b.size()[0];
        let blocks = b.f_unsqueeze(1)?.f_mul(&self.mask)?.f_view([adapted, -1])?;
        let Some(rows) = &self.rows else { return Ok(blocks) };
        let all = Tensor::f_zeros([self.height, blocks.size()[1]], (blocks.kind(), blocks.device()))?;
        Ok(all.f_index_copy(0, rows, &blocks)?)
    }
}

/// The adapters beside one fused matrix.
#[derive(Debug)]
pub(crate) struct LowRank {
    /// Where they belong.
    pub(crate) layer: usize,
    /// The matrix of the layer: qkv, output, gate-up, down.
    pub(crate) place: usize,
    /// A of all targets, stacked: (targets · r, in).
    a: Tensor,
    /// B of all targets, stacked, or already spread.
    b: Tensor,
    /// `None`: `b` is spread already.
    spread: Option<Spread>,
    dropout: f64,
}

impl LowRank {
    pub(super) fn new(layer: usize, place: usize, a: Tensor, b: Tensor, spread: Spread, dropout: f64) -> Self {
        Self { layer, place, a, b, spread: Some(spread), dropout }
    }

    /// Whether a gradient is wanted for it.
    pub(crate) fn is_trained(&self) -> bool {
        self.a.requires_grad() || self.b.requires_grad()
    }

    /// With B spread once and for all: for weights that no gradient goes through.
    pub(super) fn spread_out(self) -> Result<Self, PolicyError> {
        let b = tch::no_grad(|| self.spread.as_ref().map(|s| s.apply(&self.b)).transpose())?.unwrap_or(self.b);
        Ok(Self { b, spread: None, ..self })
    }

    /// A and B.
    pub(crate) fn tensors(&self) -> [&Tensor; 2] {
        [&self.a, &self.b]
    }

    /// Adds the adapters' output for `x` (M, in) to `y` (M, out), the frozen matrix's, in place.
    pub(crate) fn add_to(&self, y: Tensor, x: &Tensor) -> Result<Tensor, PolicyError> {
        let inner = if self.dropout > 0.0 { x.f_dropout(self.dropout, true)? } else { x.shallow_clone() };
        let inner = inner.f_linear(&self.a, None::<Tensor>)?;
        let b = match &self.spread {
            Some(spread) => spread.apply(&self.b)?,
            None => self.b.shallow_clone(),
        };
        let mut y = y;
        Ok(y.f_addmm_(&inner, &b.f_transpose(0, 1)?)?)
    }
}

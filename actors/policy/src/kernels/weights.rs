use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::aligned::Aligned;
use super::gemm::{Matrix, PanelMut};
use super::number::WeightFormat;
use super::team::Team;
use crate::weights::{Layer, Linear};
use crate::{PolicyError, Snapshot};

/// The weights of a [`Snapshot`] as the kernels read them: matrices in panels, vectors padded; the embedding stays where it is.
#[derive(Debug)]
pub struct PackedWeights {
    /// Holds the embedding. None of weights that are not in use any more, whose memory waits for the next ones.
    snapshot: Option<Arc<Snapshot>>,
    pub(super) layers: Vec<PackedLayer>,
    pub(super) norm: Aligned,
    pub(super) head: Matrix,
}

#[derive(Debug)]
pub(super) struct PackedLayer {
    pub(super) input_norm: Aligned,
    pub(super) qkv: Matrix,
    pub(super) qk_norm: Option<[Aligned; 2]>,
    pub(super) output: Matrix,
    pub(super) post_norm: Aligned,
    pub(super) gate_up: Matrix,
    pub(super) down: Matrix,
}

impl PackedWeights {
    /// Whether the kernels can run a snapshot: float32 in main memory, nothing beside its matrices.
    pub fn fits(snapshot: &Snapshot) -> bool {
        let flat = snapshot.flat();
        let plain = |layer: &Layer| {
            [&layer.qkv, &layer.output, &layer.gate_up, &layer.down].iter().all(|linear| linear.plain().is_some())
        };
        flat.device() == Device::Cpu && flat.kind() == Kind::Float && snapshot.weights().layers.iter().all(plain)
    }

    /// Packs a snapshot that [`Self::fits`].
    pub(super) fn new(snapshot: &Arc<Snapshot>, format: WeightFormat, team: &Team) -> Result<Self, PolicyError> {
        let room = |linear: &Linear| room(linear, format);
        let weights = snapshot.weights();
        let layer = |layer: &Layer| -> Result<PackedLayer, PolicyError> {
            let qk_norm = match &layer.qk_norm {
                None => None,
                Some([query, key]) => Some([vector(query)?, vector(key)?]),
            };
            Ok(PackedLayer {
                input_norm: vector(&layer.input_norm)?,
                qkv: room(&layer.qkv)?,
                qk_norm,
                output: room(&layer.output)?,
                post_norm: vector(&layer.post_norm)?,
                gate_up: room(&layer.gate_up)?,
                down: room(&layer.down)?,
            })
        };
        let (outputs, inputs) = weights.head.size2()?;
        let mut packed = Self {
            snapshot: Some(Arc::clone(snapshot)),
            layers: weights.layers.iter().map(layer).collect::<Result<_, _>>()?,
            norm: vector(&weights.norm)?,
            head: Matrix::new(outputs as usize, inputs as usize, None, format),
        };
        packed.pack(snapshot, team)?;
        Ok(packed)
    }

    /// Takes another snapshot of the same model, in the memory of the present one.
    pub(super) fn load(&mut self, snapshot: &Arc<Snapshot>, team: &Team) -> Result<(), PolicyError> {
        self.snapshot = Some(Arc::clone(snapshot));
        let weights = snapshot.weights();
        for (packed, layer) in self.layers.iter_mut().zip(&weights.layers) {
            packed.input_norm = vector(&layer.input_norm)?;
            packed.post_norm = vector(&layer.post_norm)?;
            if let Some([query, key]) = &layer.qk_norm {
                packed.qk_norm = Some([vector(query)?, vector(key)?]);
            }
            let matrices = [&mut packed.qkv, &mut packed.output, &mut packed.gate_up, &mut packed.down];
            for (matrix, linear) in matrices.into_iter().zip([&layer.qkv, &layer.output, &layer.gate_up, &layer.down]) {
                matrix.set_bias(parts(linear)?.1.map(floats).transpose()?);
            }
        }
        self.norm = vector(&weights.norm)?;
        self.pack(snapshot, team)
    }

    /// Lets the snapshot go, and keeps the memory for [`Self::load`].
    pub(super) fn retire(mut self) -> Self {
        self.snapshot = None;
        self
    }

    /// (vocabulary, hidden), row by row.
    pub(super) fn embedding(&self) -> Result<&[f32], PolicyError> {
        let retired = || PolicyError::Tensor("these weights are not in use any more".to_owned());
        floats(&self.snapshot.as_ref().ok_or_else(retired)?.weights().embedding)
    }

    fn pack(&mut self, snapshot: &Snapshot, team: &Team) -> Result<(), PolicyError> {
        let weights = snapshot.weights();
        let mut sources = Vec::with_capacity(4 * weights.layers.len() + 1);
        for layer in &weights.layers {
            for linear in [&layer.qkv, &layer.output, &layer.gate_up, &layer.down] {
                sources.push(floats(parts(linear)?.0)?);
            }
        }
        sources.push(floats(&weights.head)?);
        let matrices = self.layers.iter_mut().flat_map(|l| [&mut l.qkv, &mut l.output, &mut l.gate_up, &mut l.down]);
        let mut shares: Vec<Vec<Panel<'_>>> = (0..team.threads()).map(|_| Vec::new()).collect();
        let mut number = 0;
        for (matrix, weight) in matrices.chain([&mut self.head]).zip(sources) {
            let (outputs, inputs) = (matrix.outputs, matrix.inputs);
            for (panel, into) in matrix.panels_mut() {
                let share = number % shares.len();
                shares[share].push(Panel { weight, outputs, inputs, panel, into });
                number += 1;
            }
        }
        let shares: Vec<std::sync::Mutex<Vec<Panel<'_>>>> = shares.into_iter().map(Into::into).collect();
        team.run(&|thread| {
            // Each share has one thread, so the lock is free and nobody panicked under it.
            let mut share = shares[thread].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for Panel { weight, outputs, inputs, panel, into } in share.iter_mut() {
                Matrix::pack(weight, *outputs, *inputs, *panel, into);
            }
        });
        Ok(())
    }
}

struct Panel<'a> {
    weight: &'a [f32],
    outputs: usize,
    inputs: usize,
    panel: usize,
    into: PanelMut<'a>,
}

/// Weight and bias.
pub(super) fn parts(linear: &Linear) -> Result<(&Tensor, Option<&Tensor>), PolicyError> {
    linear.plain().ok_or_else(|| PolicyError::Tensor("the kernels take no adapter beside a matrix".to_owned()))
}

fn room(linear: &Linear, format: WeightFormat) -> Result<Matrix, PolicyError> {
    let (weight, bias) = parts(linear)?;
    let (outputs, inputs) = weight.size2()?;
    Ok(Matrix::new(outputs as usize, inputs as usize, bias.map(floats).transpose()?, format))
}

fn vector(tensor: &Tensor) -> Result<Aligned, PolicyError> {
    Ok(Aligned::padded(floats(tensor)?))
}

/// A tensor's memory.
fn floats(tensor: &Tensor) -> Result<&[f32], PolicyError> {
    if tensor.device() != Device::Cpu || tensor.kind() != Kind::Float || !tensor.is_contiguous() {
        return Err(PolicyError::Tensor("the kernels read contiguous float32 tensors in main memory only".to_owned()));
    }
    // SAFETY: so many floats lie there, without gaps, for as long as the tensor lives; a snapshot's are never written.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) })
}

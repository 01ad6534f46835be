//! Queues of work on a GPU: each engine's thread has one of its own, so that sampling and gradient steps overlap there.
//!
//! A thread that never calls [`enter`] works on the device's default stream. Streams know nothing of each other: a tensor that
//! one made is for others to read only behind a [`Mark`] that was set after it, and its memory is given back only when all
//! are done with it, which [`Mark::wait_for`] sees to. On a CPU all of this is nothing.
//!
//! libtorch's own interface for any device does the work (`shim.cpp`); tch has none of it.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use tch::{Device, Tensor};

use crate::PolicyError;

// SAFETY: the functions of shim.cpp, with the types that they have there.
unsafe extern "C" {
    fn counterpoint_text_free(text: *mut c_char);
    fn counterpoint_stream_enter(device: i32, urgent: bool) -> *mut c_char;
    fn counterpoint_mark_record(device: i32, mark: *mut *mut c_void) -> *mut c_char;
    fn counterpoint_mark_wait(mark: *const c_void) -> *mut c_char;
    fn counterpoint_mark_free(mark: *mut c_void);
    fn counterpoint_tensor_used(tensor: *const c_void) -> *mut c_char;
    fn counterpoint_memory(device: i32, bytes: *mut i64) -> *mut c_char;
}

/// How much a stream's work matters where several compete for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Short kernels that somebody waits for one after the other, as in a decode step: they go before others' as soon as a
    /// part of the device falls free.
    High,
    /// Everything else.
    Normal,
}

/// Gives the calling thread a stream of its own on `device`, behind all that its default stream was given so far.
pub fn enter(device: Device, urgency: Urgency) -> Result<(), PolicyError> {
    let Some(index) = cuda_index(device)? else { return Ok(()) };
    // SAFETY: takes plain values.
    checked("a stream", unsafe { counterpoint_stream_enter(index, urgency == Urgency::High) })
}

/// A point in the work of a thread's stream, for other threads' to wait for.
#[derive(Debug)]
pub struct Mark(Option<NonNull<c_void>>);

// SAFETY: an event of libtorch, which any thread may wait for and destroy; nothing here changes it after it was recorded.
unsafe impl Send for Mark {}
// SAFETY: as above.
unsafe impl Sync for Mark {}

impl Mark {
    /// Behind all that the calling thread has asked of `device` so far.
    pub fn here(device: Device) -> Result<Self, PolicyError> {
        let Some(index) = cuda_index(device)? else { return Ok(Self(None)) };
        let mut mark = std::ptr::null_mut();
        // SAFETY: `mark` outlives the call, which writes a new event there or nothing.
        checked("an event", unsafe { counterpoint_mark_record(index, &raw mut mark) })?;
        Ok(Self(NonNull::new(mark)))
    }

    /// Lets all that the calling thread asks of the device from now on begin behind the mark, and keeps the memory of
    /// `tensors` until it is done with them. The thread itself does not wait.
    pub fn wait_for<'a>(&self, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<(), PolicyError> {
        let Some(mark) = self.0 else { return Ok(()) };
        // SAFETY: `mark` is an event that lives as long as `self`.
        checked("an event", unsafe { counterpoint_mark_wait(mark.as_ptr()) })?;
        for tensor in tensors {
            // SAFETY: tch's pointer is to an at::Tensor, which is an at::TensorBase, and lives as long as `tensor`.
            checked("a stream", unsafe { counterpoint_tensor_used(tensor.as_ptr().cast()) })?;
        }
        Ok(())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(mark) = self.0 {
            // SAFETY: made by counterpoint_mark_record and freed here only.
            unsafe { counterpoint_mark_free(mark.as_ptr()) }
        }
    }
}

/// Memory that libtorch has of a GPU, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In tensors now.
    pub allocated: u64,
    /// The most that was in tensors at a time.
    pub peak: u64,
    /// The most that was taken from the device at a time, what tensors left unused included.
    pub reserved: u64,
}

/// What libtorch has of `device`; `None` on a CPU.
pub fn memory(device: Device) -> Result<Option<DeviceMemory>, PolicyError> {
    let Some(index) = cuda_index(device)? else { return Ok(None) };
    let mut bytes = [0i64; 3];
    // SAFETY: the call writes three numbers there.
    checked("the memory", unsafe { counterpoint_memory(index, bytes.as_mut_ptr()) })?;
    let [allocated, peak, reserved] = bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    Ok(Some(DeviceMemory { allocated, peak, reserved }))
}

/// Waits until `device` has done all that any stream was given. For measuring: nothing else needs to wait for so much.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(i64::try_from(index).unwrap_or(i64::MAX));
    }
}

fn cuda_index(device: Device) -> Result<Option<i32>, PolicyError> {
    match device {
        Device::Cuda(index) => {
            i32::try_from(index).map(Some).map_err(|_| PolicyError::Tensor(format!("there is no CUDA device {index}")))
        }
        _ => Ok(None),
    }
}

/// The error of a call that returned a text.
fn checked(what: &str, text: *mut c_char) -> Result<(), PolicyError> {
    if text.is_null() {
        return Ok(());
    }
    // SAFETY: a C string made for this call, freed once.
    let said = unsafe {
        let said = CStr::from_ptr(text).to_string_lossy().into_owned();
        counterpoint_text_free(text);
        said
    };
    Err(PolicyError::Tensor(format!("{what} of the GPU: {}", said.lines().next().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn on_a_cpu_nothing_is_needed() {
        enter(Device::Cpu, Urgency::High).unwrap();
        let tensor = Tensor::ones([3], (Kind::Float, Device::Cpu));
        Mark::here(Device::Cpu).unwrap().wait_for([&tensor]).unwrap();
        assert_eq!(memory(Device::Cpu).unwrap(), None);
    }

    #[test]
    fn what_libtorch_throws_is_an_error_of_one_line() {
        // No machine has it, whether there is a GPU or not.
        let errors = [
            enter(Device::Cuda(120), Urgency::Normal).unwrap_err().to_string(),
            Mark::here(Device::Cuda(120)).unwrap_err().to_string(),
            memory(Device::Cuda(120)).unwrap_err().to_string(),
        ];
        for error in errors {
            assert!(error.contains("of the GPU: ") && !error.contains('\n'), "{error}");
        }
    }
}

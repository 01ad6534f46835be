//! Which device tensors live on, and how many cores one thread's operations use.
//!
//! Contract: [`choose`] runs before the first tensor of the process. The program links libtorch's CPU half only, so that it
//! starts on machines without CUDA; the CUDA half is loaded here, when it is there and a driver is, and libtorch asks once,
//! at the first use of a device, whether it was. Linux only: elsewhere the CPU is the device.
//!
//! Limits: one device per engine; no MPS, no ROCm.

use std::sync::Once;

use tch::Device;

use crate::PolicyError;

/// The device that a configuration names.
///
/// * `"auto"`: the first CUDA device if one can be used, else the CPU; the reason why not is logged.
/// * `"cpu"`.
/// * `"cuda"` (the same as `"cuda:0"`) and `"cuda:N"`: that device, or an error that says why it cannot be used.
pub fn choose(spec: &str) -> Result<Device, PolicyError> {
    let refuse = |problem: String| PolicyError::Device { wanted: spec.to_owned(), problem };
    match parse(spec).ok_or_else(|| refuse("must be \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"".to_owned()))? {
        Wanted::Cpu => Ok(Device::Cpu),
        Wanted::Cuda(index) => {
            let count = cuda_devices().map_err(&refuse)?;
            if index >= count {
                return Err(refuse(format!("there are {count} CUDA devices, numbered from 0")));
            }
            Ok(Device::Cuda(index))
        }
        Wanted::Best => match cuda_devices() {
            Ok(_) => Ok(Device::Cuda(0)),
            Err(why) => {
                // Several parts of a program ask; one line is enough.
                static SAID: Once = Once::new();
                SAID.call_once(|| tracing::info!(%why, "no CUDA, the device is the CPU"));
                Ok(Device::Cpu)
            }
        },
    }
}

/// Whether [`choose`] knows the name, wherever such a device may be.
pub fn is_name(spec: &str) -> bool {
    parse(spec).is_some()
}

/// How many cores the operations of the calling thread may use, at least one.
///
/// It holds for the calling thread only: libtorch is built with OpenMP, which (like MKL as libtorch calls it) keeps the
/// number per thread. Every engine therefore calls it on its own thread, first thing. A thread that never does uses as many
/// cores as the last thread that did.
pub fn set_threads(threads: usize) {
    // A thread's first operation copies the number that any thread set last (ATen's lazy_init_num_threads), over the one set
    // here. Asking for the number is such an operation: let it be the first.
    let _ = tch::get_num_threads();
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Best,
    Cpu,
    Cuda(usize),
}

fn parse(spec: &str) -> Option<Wanted> {
    match spec {
        "auto" => Some(Wanted::Best),
        "cpu" => Some(Wanted::Cpu),
        "cuda" => Some(Wanted::Cuda(0)),
        other => {
            let digits = other.strip_prefix("cuda:")?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok().map(Wanted::Cuda)).flatten()
        }
    }
}

/// How many CUDA devices can be used, at least one, or why none can.
fn cuda_devices() -> Result<usize, String> {
    linked::load_cuda()?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("the NVIDIA driver reports no device that libtorch can use".to_owned()),
    }
}

#[cfg(target_os = "linux")]
mod linked {
    use std::ffi::{CStr, CString};
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    /// Loads libtorch's CUDA half into the process, once; later calls repeat the first answer.
    pub(super) fn load_cuda() -> Result<(), String> {
        static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
        LOADED.get_or_init(load).clone()
    }

    fn load() -> Result<(), String> {
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(|e| format!("/proc/self/maps: {e}"))?;
        let folder = folder_of("libtorch_cpu.so", &maps).ok_or("libtorch_cpu.so is not loaded from a file")?;
        let library = folder.join("libtorch_cuda.so");
        if !library.exists() {
            return Err(format!("{} does not exist: this libtorch is built for the CPU", library.display()));
        }
        // Half a gigabyte of kernels is not worth loading without a driver to run them.
        open(Path::new("libcuda.so.1"), libc::RTLD_LAZY).map_err(|e| format!("no NVIDIA driver ({e})"))?;
        // GLOBAL: the CUDA half finds its symbols in the CPU half, and is found by libraries loaded later.
        open(&library, libc::RTLD_NOW | libc::RTLD_GLOBAL)
    }

    /// Where the process mapped a library from. The kernel prints one mapping a line, its path last.
    pub(super) fn folder_of(library: &str, maps: &str) -> Option<PathBuf> {
        let path = |line: &str| line.find('/').map(|start| PathBuf::from(&line[start..]));
        let mapped = maps.lines().filter_map(path).find(|p| p.file_name().is_some_and(|name| name == library))?;
        mapped.parent().map(Path::to_path_buf)
    }

    /// Loads a shared library for the rest of the process.
    fn open(library: &Path, flags: i32) -> Result<(), String> {
        let name = CString::new(library.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: `name` is a C string that outlives the call. The library's initialisers run here: those of the NVIDIA
        // driver and of libtorch, which only enter themselves in tables.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if !handle.is_null() {
            return Ok(());
        }
        // SAFETY: dlerror returns a C string that lives until this thread's next call of a dl function, or null.
        let message = unsafe {
            let message = libc::dlerror();
            (!message.is_null()).then(|| CStr::from_ptr(message).to_string_lossy().into_owned())
        };
        Err(message.unwrap_or_else(|| format!("{} cannot be loaded", library.display())))
    }
}

#[cfg(not(target_os = "linux"))]
mod linked {
    pub(super) fn load_cuda() -> Result<(), String> {
        Err("CUDA is used on Linux only".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_read_strictly() {
        assert_eq!(parse("auto"), Some(Wanted::Best));
        assert_eq!(parse("cpu"), Some(Wanted::Cpu));
        assert_eq!(parse("cuda"), Some(Wanted::Cuda(0)));
        assert_eq!(parse("cuda:3"), Some(Wanted::Cuda(3)));
        assert!(is_name("auto") && !is_name("gpu"));
        for wrong in ["", "gpu", "CPU", "cuda:", "cuda:+1", "cuda:-1", "cuda:1x", "cuda:99999999999999999999"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_unknown_device_is_refused_with_what_would_be_right() {
        let error = choose("tpu").unwrap_err().to_string();
        assert_eq!(error, "device tpu: must be \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"");
    }

    #[test]
    fn auto_always_finds_a_device_and_the_cpu_is_one() {
        let device = choose("auto").unwrap();
        assert!(tch::Tensor::f_ones([2], (tch::Kind::Float, device)).is_ok());
        assert_eq!(choose("cpu").unwrap(), Device::Cpu);
        assert!(choose("cuda:4096").is_err());
    }

    #[test]
    fn a_thread_keeps_its_number_whatever_others_set_later() {
        set_threads(3);
        let other = std::thread::spawn(|| {
            set_threads(2);
            tch::get_num_threads()
        });
        assert_eq!(other.join().unwrap(), 2);
        assert_eq!(tch::get_num_threads(), 3);
        set_threads(0);
        assert_eq!(tch::get_num_threads(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_folder_of_a_library_is_read_from_the_memory_map() {
        let maps = "7f00-7f01 r--p 00000000 08:01 42                         /opt/my torch/lib/libc10.so\n\
                    7f01-7f02 r-xp 00000000 08:01 43                         /opt/my torch/lib/libtorch_cpu.so\n\
                    7f02-7f03 rw-p 00000000 00:00 0                          [heap]\n";
        assert_eq!(linked::folder_of("libtorch_cpu.so", maps), Some("/opt/my torch/lib".into()));
        assert_eq!(linked::folder_of("libtorch_cuda.so", maps), None);
    }
}

//! Bakes libtorch's folder into the executables of a package (its tests and programs), so that they run without
//! LD_LIBRARY_PATH. Every package that links libtorch names this file as its build script: cargo hands a link argument
//! to the package that prints it only.
use std::path::Path;

pub(crate) fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(libtorch) = std::env::var("LIBTORCH") else { return };
    if let Ok(lib) = Path::new(&libtorch).join("lib").canonicalize() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}

//! Builds what tch lacks for GPUs (src/streams/shim.cpp) against libtorch's headers. No CUDA is needed for it.
use std::path::Path;

#[path = "build.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=src/streams/shim.cpp");
    // torch-sys has found libtorch by the same variable; `make setup` and .cargo/config.toml see to it.
    let libtorch = std::env::var("LIBTORCH").unwrap_or_else(|_| "/usr".to_owned());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(Path::new(&libtorch).join("include"))
        .file("src/streams/shim.cpp")
        // libtorch's headers are not ours to tidy.
        .flag("-Wno-unused-parameter")
        .compile("counterpoint_streams");
}

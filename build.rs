//! Link arguments of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Never unloaded: a thread that called the library has thread-local values, whose destructors run when the thread ends.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // No text relocations, and nothing writable that need not be.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,text,-z,relro,-z,now");
}

//! Link arguments of the shared library: its soname, its symbol versions, and what hardens it.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The ABI number in the shared library's soname. It grows when programs linked with an older library cannot work with a
/// newer one, independently of the crate's version. `cmake/CargoLibrary.cmake` reads it here.
const ABI: u32 = 0;

/// The symbol versions, from the root of the crate.
const VERSION_SCRIPT: &str = "image_cache.map";

/// A linker of this name is used with `-fuse-ld=bfd`, in the first directory that has one.
const WRAPPER: &str = "ld.bfd";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    // Programs linked with the library load it by this name. Tests read it from the environment.
    let soname = format!("libimage_cache.so.{ABI}");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    println!("cargo:rustc-env=IMAGE_CACHE_SONAME={soname}");
    version_symbols()?;
    // Never unloaded: the destructors of thread-local values run when a thread ends, and their code is in the library.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // No text relocations, read-only relocation tables, and no undefined symbols: a missing SQLite must fail the link, and
    // not resolve to the host's SQLite.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,text,-z,relro,-z,now,-z,defs");
    Ok(())
}

/// Links with [`VERSION_SCRIPT`] instead of rustc's own version script. rustc always passes one, without a name. Linkers refuse a
/// second one beside it, or ignore it. So the compiler runs a script of ours, which exchanges the argument and runs the linker.
fn version_symbols() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={VERSION_SCRIPT}");
    let versions = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(VERSION_SCRIPT);
    let directory = Path::new(&env::var("OUT_DIR")?).join("linker");
    let wrapper = directory.join(WRAPPER);
    let script = format!(
        "#!/bin/sh\n\
         # Runs the linker with the symbol versions of libimage_cache instead of rustc's. Written by its build.rs.\n\
         for argument do\n\
         shift\n\
         case $argument in --version-script=*) argument=--version-script={} ;; esac\n\
         set -- \"$@\" \"$argument\"\n\
         done\n\
         exec {} \"$@\"\n",
        quoted(&versions.display().to_string()),
        quoted(&linker()?),
    );
    fs::create_dir_all(&directory)?;
    fs::write(&wrapper, script)?;
    make_executable(&wrapper)?;
    println!("cargo:rustc-cdylib-link-arg=-B{}", directory.display());
    println!("cargo:rustc-cdylib-link-arg=-fuse-ld=bfd");
    Ok(())
}

/// The linker that the C compiler runs. Cargo names that compiler if it is configured, for example to cross-compile.
fn linker() -> Result<String, Box<dyn Error>> {
    let compiler = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    for name in ["ld", "ld.bfd", "ld.lld"] {
        let output = Command::new(&compiler).arg(format!("-print-prog-name={name}")).output();
        let output =
            output.map_err(|error| format!("the C compiler '{compiler}', which links the library: {error}"))?;
        let path = String::from_utf8(output.stdout)?.trim().to_owned();
        if !path.is_empty() && Command::new(&path).arg("--version").output().is_ok_and(|output| output.status.success())
        {
            return Ok(path);
        }
    }
    Err(format!("the C compiler '{compiler}' names no linker, neither ld nor ld.lld").into())
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(unix)]
fn make_executable(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other("the library is built on Unix systems only"))
}

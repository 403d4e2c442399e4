//! The README's C program compiles without a warning and prints the image.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Links cargo's build of the library under the names that the linker and the loader search.
fn link_library_to(directory: &Path) {
    let built = std::env::current_exe().unwrap().with_file_name("libimage_cache.so");
    for name in ["libimage_cache.so", env!("IMAGE_CACHE_SONAME")] {
        symlink(&built, directory.join(name)).unwrap();
    }
}

fn first_c_program(readme: &str) -> &str {
    readme.split_once("```c\n").and_then(|(_, rest)| rest.split_once("```")).map(|(program, _)| program).unwrap()
}

#[test]
fn the_c_program_of_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let program = first_c_program(&readme);
    assert!(program.lines().count() <= 30, "the program has more than 30 lines");

    let scratch = tempfile::tempdir().unwrap();
    let (source, binary) = (scratch.path().join("readme.c"), scratch.path().join("readme"));
    std::fs::write(&source, program).unwrap();
    link_library_to(scratch.path());
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-o"])
        .arg(&binary)
        .arg(&source)
        .arg("-I")
        .arg(root.join("include"))
        .arg("-L")
        .arg(scratch.path())
        .arg("-limage_cache")
        .arg(format!("-Wl,-rpath,{}", scratch.path().display()))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));

    // The second run finds the image of the first.
    for _ in 0..2 {
        let run = Command::new(&binary).arg(scratch.path().join("cache")).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        assert_eq!(run.stdout, b"the image's bytes\n");
        assert!(run.stderr.is_empty());
    }
}

//! The structure of `src/`: each layer imports only from those below it, no files import each other in a circle, and what only
//! one place may know stays there. `src/lib.rs` is the map.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{ItemUse, UseTree};

/// The layers, from the bottom up. Those of one line do not import each other.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["log", "inspector"],
    &["sys"],
    &["digest", "format"],
    &["store"],
    &["index"],
    &["options"],
    &["cache"],
    &["ffi"],
];

/// Longer files have more than one idea.
const MAX_LINES: usize = 400;

/// Which crates only some files may use: the crate, and the beginnings of these files' paths.
const CONFINED: &[(&str, &[&str])] = &[
    ("rustix", &["sys/", "error.rs"]),
    ("libc", &["sys/"]),
    ("rusqlite", &["index/sqlite/"]),
    ("sha2", &["digest/"]),
    ("fast_md5", &["digest/"]),
    ("crc_fast", &["digest/"]),
];

/// The one file that makes descriptors, and the ends of paths that would make one elsewhere.
const DESCRIPTORS: &str = "sys/descriptors.rs";
const MAKE_DESCRIPTORS: &[&str] = &[
    "rustix::fs::open",
    "fs::openat",
    "fs::openat2",
    "Dir::read_from",
    "fs::memfd_create",
    "fs::inotify",
    "io::dup",
    "io::dup2",
    "io::dup3",
    "io::fcntl_dupfd_cloexec",
    "rustix::event",
    "rustix::net",
    "rustix::pipe",
    "libc::open",
    "libc::openat",
    "libc::dup",
    "File::open",
    "File::create",
    "OpenOptions",
    "fs::read",
    "fs::read_dir",
    "fs::read_to_string",
    "fs::write",
    "fs::copy",
];

/// A source file and the paths that it names, by `use` or in full.
struct Source {
    text: String,
    paths: BTreeSet<Vec<String>>,
}

#[test]
fn each_layer_imports_only_from_those_below_it() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (file, source) in &sources {
        let Some(from) = rank(layer(file)) else { continue };
        for target in imports(file, source, &sources) {
            let is_below = rank(layer(&target)).is_some_and(|to| to < from);
            if layer(&target) != layer(file) && !is_below {
                wrong.push(format!("{file} imports {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the layers:\n{}", wrong.join("\n"));
}

#[test]
fn the_c_abi_uses_the_public_api_only() {
    let mut wrong = Vec::new();
    for (file, source) in sources().iter().filter(|(file, _)| layer(file) == "ffi") {
        for path in source.paths.iter().filter(|path| path[0] == "crate") {
            let is_public = path.get(1).is_some_and(|name| name == "ffi" || name.starts_with(char::is_uppercase));
            if !is_public {
                wrong.push(format!("{file} names {}", path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let mut left: BTreeMap<&String, BTreeSet<String>> =
        sources.iter().map(|(file, source)| (file, imports(file, source, &sources))).collect();
    // Files that import nothing, and files that nothing imports, are removed until only circles are left.
    loop {
        let imported: BTreeSet<_> = left.values().flatten().cloned().collect();
        let is_free = |file: &String, targets: &BTreeSet<String>| targets.is_empty() || !imported.contains(file);
        let free: Vec<_> =
            left.iter().filter(|(file, targets)| is_free(file, targets)).map(|(file, _)| *file).collect();
        if free.is_empty() {
            break;
        }
        for file in free {
            left.remove(file);
            for targets in left.values_mut() {
                targets.remove(file);
            }
        }
    }
    assert!(left.is_empty(), "in circles: {left:#?}");
}

#[test]
fn what_one_place_knows_stays_there() {
    let mut wrong = Vec::new();
    for (file, source) in &sources() {
        for (name, places) in CONFINED {
            let is_used = source.paths.iter().any(|path| path[0] == *name);
            if is_used && !places.iter().any(|place| file.starts_with(place)) {
                wrong.push(format!("{file} uses the crate {name}"));
            }
        }
        let is_unsafe = source.text.contains("allow(unsafe_code");
        // SQLite's file layer is a table of C functions.
        if is_unsafe && !["ffi/", "sys/", "index/sqlite/vfs/"].iter().any(|place| file.starts_with(place)) {
            wrong.push(format!("{file} has unsafe code"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_file_makes_descriptors() {
    let mut wrong = Vec::new();
    for (file, source) in sources().iter().filter(|(file, _)| *file != DESCRIPTORS) {
        for path in source.paths.iter().map(|path| path.join("::")) {
            let makes_one = |name: &&str| path.ends_with(*name) || path.starts_with(&format!("{name}::"));
            if MAKE_DESCRIPTORS.iter().any(makes_one) && !path.starts_with("crate::") {
                wrong.push(format!("{file} names {path}"));
            }
        }
        if source.text.contains(".try_clone") {
            wrong.push(format!("{file} duplicates a descriptor"));
        }
    }
    assert!(wrong.is_empty(), "outside of {DESCRIPTORS}:\n{}", wrong.join("\n"));
}

#[test]
fn each_file_has_one_idea_and_says_which() {
    let mut wrong = Vec::new();
    for (file, source) in &sources() {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{file} has {lines} lines, more than {MAX_LINES}"));
        }
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{file} does not begin with what it is for"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files of `src/`, by their paths within it.
fn sources() -> BTreeMap<String, Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![root.clone()];
    let mut sources = BTreeMap::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let mut paths = Paths::default();
                paths.visit_file(&syn::parse_file(&text).unwrap());
                let file = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                sources.insert(file, Source { text, paths: paths.0 });
            }
        }
    }
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

/// Collects the paths in a file.
#[derive(Default)]
struct Paths(BTreeSet<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    /// Unit tests may import what they want.
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg")) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let path_of_names = path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>();
        if path_of_names.len() > 1 {
            self.0.insert(path_of_names);
        }
        syn::visit::visit_path(self, path);
    }
}

impl Paths {
    fn add_tree(&mut self, mut parents: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                parents.push(path.ident.to_string());
                self.add_tree(parents, &path.tree);
            }
            UseTree::Name(name) => self.add(parents, name.ident.to_string()),
            UseTree::Rename(rename) => self.add(parents, rename.ident.to_string()),
            UseTree::Glob(_) => self.add(parents, "*".to_owned()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(parents.clone(), tree)),
        }
    }

    fn add(&mut self, mut path: Vec<String>, name: String) {
        path.push(name);
        self.0.insert(path);
    }
}

/// The files that a file imports from, except itself and `lib.rs`, which only re-exports.
fn imports(file: &str, source: &Source, sources: &BTreeMap<String, Source>) -> BTreeSet<String> {
    let module = module_of(file);
    let targets = source.paths.iter().filter_map(|path| {
        let mut absolute = match path[0].as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(1)?].to_vec(),
            _ => return None,
        };
        absolute.extend(path[1..].iter().cloned());
        file_of(&absolute, sources)
    });
    targets.filter(|target| target != file && target != "lib.rs").collect()
}

/// The path of the module that a file is.
fn module_of(file: &str) -> Vec<String> {
    let path = PathBuf::from(file.strip_suffix(".rs").unwrap());
    let mut module: Vec<_> = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    module.pop_if(|last| ["mod", "lib"].contains(&last.as_str()));
    module
}

/// The file that has the item or module of that path.
fn file_of(path: &[String], sources: &BTreeMap<String, Source>) -> Option<String> {
    (0..=path.len()).rev().find_map(|length| {
        let module = path[..length].join("/");
        [format!("{module}.rs"), format!("{module}/mod.rs").trim_start_matches('/').to_owned(), "lib.rs".to_owned()]
            .into_iter()
            .find(|file| sources.contains_key(file) && (file != "lib.rs" || length == 0))
    })
}

/// The first part of a file's path: the layer that it belongs to.
fn layer(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// The place of a layer from the bottom; `None` for `lib.rs`, the map of all.
fn rank(layer: &str) -> Option<usize> {
    if layer == "lib" {
        return None;
    }
    let rank = LAYERS.iter().position(|layers| layers.contains(&layer));
    assert!(rank.is_some(), "the layer {layer} is not in the list");
    rank
}

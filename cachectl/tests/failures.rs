//! Wrong directories, arguments and configurations: what fails, with which code and message, and that nothing was changed.

mod common;

use std::fs;

use common::{Cache, DRIVERS, file, program, run};

/// Every command that needs a cache.
const COMMANDS: [&[&str]; 23] = [
    &["status"],
    &["list"],
    &["list", "--incomplete"],
    &["list", "--invalid"],
    &["show", "1"],
    &["stats"],
    &["add", "1", "/dev/null"],
    &["export", "1", "out"],
    &["queue"],
    &["queue", "add", "1"],
    &["queue", "remove", "1"],
    &["pin", "1"],
    &["unpin", "1"],
    &["delete", "1"],
    &["delete", "--all"],
    &["prune", "--to", "0"],
    &["make-room", "1G"],
    &["limit"],
    &["limit", "set", "1G"],
    &["clean"],
    &["verify"],
    &["convert", "xattr"],
    &["take-over", "-"],
];

#[test]
fn a_directory_without_a_cache_stays_as_it_is() {
    let cache = Cache::absent("sqlite");
    for arguments in COMMANDS {
        let refused = cache.run(arguments).expect(7);
        assert!(refused.stderr.contains("does not exist") && refused.stderr.contains("create"), "{refused:?}");
        assert!(!cache.directory().exists(), "{arguments:?}");
    }
    fs::create_dir(cache.directory()).unwrap();
    file(&cache.directory().join("thesis.pdf"), b"mine");
    for arguments in COMMANDS {
        let refused = cache.run(arguments).expect(7);
        assert!(refused.stderr.contains("has no image cache"), "{refused:?}");
        assert_eq!(fs::read_dir(cache.directory()).unwrap().count(), 1, "{arguments:?}");
    }
    // A directory with other files does not become one either.
    let refused = cache.run(&["create"]).expect(2);
    assert!(refused.stderr.contains("thesis.pdf"), "{refused:?}");
    let none = run(program().arg("status")).expect(2);
    assert!(none.stderr.contains("IMAGE_CACHE_DIR"), "{none:?}");
    let file = run(program().args(["-C", "/dev/null", "status"])).expect(7);
    assert!(file.stderr.contains("'/dev/null' is no directory"), "{file:?}");
}

/// What a directory has: names and bytes.
fn content(directory: &std::path::Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut content: Vec<_> =
        entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap_or_default())).collect();
    content.sort();
    content
}

/// Another program's file can have the name of the index.
#[test]
fn another_program_s_cache_db_makes_no_cache() {
    for write in [(|path| drop(file(path, b"my precious notes"))) as fn(&std::path::Path), |path| {
        rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE app (text TEXT)").unwrap();
    }] {
        let cache = Cache::absent("sqlite");
        fs::create_dir(cache.directory()).unwrap();
        write(&cache.directory().join("cache.db"));
        file(&cache.directory().join("thesis.txt"), b"mine");
        let before = content(&cache.directory());
        for arguments in COMMANDS {
            let refused = cache.run(arguments).expect(7);
            assert!(refused.stderr.contains("no image cache") || refused.stderr.contains("tables app"), "{refused:?}");
            assert_eq!(content(&cache.directory()), before, "{arguments:?}");
        }
        cache.run(&["create"]).expect(2);
        let fixed = cache.run(&["doctor", "--fix"]);
        assert!([7, 8].contains(&fixed.code), "{fixed:?}");
        assert_eq!(content(&cache.directory()), before);
        // With Glance's subdirectories, it is not the index either.
        for name in ["incomplete", "invalid", "queue"] {
            fs::create_dir(cache.directory().join(name)).unwrap();
        }
        let before = content(&cache.directory());
        for arguments in COMMANDS.iter().chain(&[["create"].as_slice()]) {
            let refused = cache.run(arguments).expect(1);
            assert!(refused.stderr.contains("is not the index of a cache"), "{refused:?}");
        }
        cache.run(&["doctor", "--fix"]).expect(8);
        assert_eq!(content(&cache.directory()), before);
    }
}

/// The index of a cache was replaced by another program's database.
#[test]
fn another_program_s_database_in_a_cache_is_left_as_it_is() {
    for log in ["", "PRAGMA journal_mode = WAL;"] {
        let cache = Cache::new("sqlite");
        cache.add("1", b"hello");
        for name in ["cache.db", "cache.db-journal"] {
            let _ = fs::remove_file(cache.directory().join(name));
        }
        let sql = format!("{log} CREATE TABLE app (text TEXT); INSERT INTO app VALUES ('mine')");
        let connection = rusqlite::Connection::open(cache.directory().join("cache.db")).unwrap();
        connection.execute_batch(&sql).unwrap();
        let before = fs::read(cache.directory().join("cache.db")).unwrap();
        for arguments in [["status"].as_slice(), &["delete", "1"], &["prune", "--to", "0"], &["doctor", "--fix"]] {
            let refused = cache.run(arguments).expect(if arguments[0] == "doctor" { 8 } else { 1 });
            assert!((refused.stdout + &refused.stderr).contains("app") || !log.is_empty());
            assert_eq!(fs::read(cache.directory().join("cache.db")).unwrap(), before, "{arguments:?}");
        }
        drop(connection);
    }
    let cache = Cache::new("xattr");
    rusqlite::Connection::open(cache.directory().join("cache.db"))
        .unwrap()
        .execute_batch("CREATE TABLE app (x)")
        .unwrap();
    cache.run(&["status"]).expect(0);
    let before = fs::read(cache.directory().join("cache.db")).unwrap();
    cache.run(&["convert", "sqlite"]).expect(1);
    assert_eq!(fs::read(cache.directory().join("cache.db")).unwrap(), before);
}

#[test]
fn the_directory_can_be_in_the_environment() {
    let cache = Cache::new("xattr");
    let status = run(program().env("IMAGE_CACHE_DIR", cache.directory()).args(["status", "--json"])).expect(0).json();
    assert_eq!(status["directory"], cache.directory().canonicalize().unwrap().to_str().unwrap());
    let other = Cache::new("sqlite");
    let status = run(other.command(&["status", "--json"]).env("IMAGE_CACHE_DIR", cache.directory())).expect(0).json();
    assert_eq!(status["driver"], "sqlite", "the argument comes first");
}

#[test]
fn the_directory_s_own_driver_is_used_and_another_one_refused() {
    for (driver, other) in [("sqlite", "xattr"), ("xattr", "sqlite")] {
        let cache = Cache::new(driver);
        cache.add("1", b"hello");
        assert_eq!(cache.json(&["status"])["driver"], driver);
        let refused = cache.run(&["--driver", other, "list"]).expect(2);
        assert!(refused.stderr.contains("'convert'"), "{refused:?}");
        assert_eq!(cache.ids(), ["1"]);
    }
}

#[test]
fn a_database_with_another_name_is_found_again() {
    let cache = Cache::absent("sqlite");
    let text = format!("directory = '{}'\ndatabase = 'index.db'\n", cache.directory().display());
    let config = file(&cache.beside("conf"), text.as_bytes());
    run(program().args(["--config", &config, "create"])).expect(0);
    cache.add("1", b"hello");
    cache.run(&["export", "1", "-"]).expect(0);
    assert_eq!(cache.ids(), ["1"], "the index is no image");
    assert!(cache.directory().join("index.db").exists() && !cache.directory().join("cache.db").exists());
    assert_eq!(cache.json(&["convert", "xattr"])["hits"], 1);
    assert_eq!(cache.ids(), ["1"]);
    assert_eq!(cache.json(&["list"])["images"][0]["hits"], 1);
}

#[test]
fn what_glance_left_is_opened_with_its_driver() {
    for driver in DRIVERS {
        let cache = Cache::absent(driver);
        for name in ["", "incomplete", "invalid", "queue"] {
            fs::create_dir(cache.directory().join(name)).unwrap();
        }
        file(&cache.directory().join("6a1f"), b"hello");
        if driver == "sqlite" {
            file(&cache.directory().join("cache.db"), b"");
        }
        assert_eq!(cache.json(&["status"])["driver"], driver);
        assert_eq!(cache.ids(), ["6a1f"]);
    }
}

#[test]
fn a_wrong_configuration_is_named_with_its_place() {
    let cache = Cache::new("sqlite");
    for (text, message) in [
        ("max-sise = '1G'", "max-sise"),
        ("max-size = '1 bushel'", "1 bushel"),
        ("driver = 'tape'", "tape"),
        ("min-free = '200%'", "200%"),
        ("stall-time = 'soon'", "soon"),
        ("directory =", "conf"),
        ("formats = 'docx'", "docx"),
        ("database = '../x'", "../x"),
    ] {
        let config = file(&cache.beside("conf"), text.as_bytes());
        let refused = cache.run(&["--config", &config, "status"]).expect(2);
        assert!(refused.stderr.contains(message), "{text}: {refused:?}");
    }
    let absent = cache.run(&["--config", "absent", "status"]).expect(1);
    assert!(absent.stderr.contains("cannot read the configuration 'absent': No such file"), "{absent:?}");
    // Without a cache, completions are printed all the same.
    let config = file(&cache.beside("conf"), b"nonsense");
    cache.run(&["--config", &config, "completions", "bash"]).expect(0);
}

#[test]
fn wrong_arguments_are_explained() {
    let cache = Cache::new("sqlite");
    cache.add("1", b"hello");
    for (arguments, message) in [
        (["add", "2", "--digest", "abc"].as_slice(), "sha256 64"),
        (&["add", "2", "--digest", "sha1:abc"], "sha1"),
        (&["add", "a/b", "/etc/hostname"], "a/b"),
        (&["add", "2", "--formats", "docx", "/etc/hostname"], "docx"),
        (&["add", "2", "/"], "no regular file"),
        (&["pin", "1", "--for", "soon"], "1h 30m"),
        (&["pin", "1", "--for", "0"], "0 seconds"),
        (&["pin", "1", "--holder", ""], "empty"),
        (&["prune", "--to", "ten"], "10G"),
        (&["make-room", "-5"], "-5"),
        (&["limit", "set", "16E"], "16 EiB"),
        (&["verify", "--rate", "0"], "never ends"),
        (&["delete"], "required"),
        (&["delete", "1", "--all"], "cannot be used"),
        (&["list", "--sort", "colour"], "colour"),
        (&["export", "1", "-", "--json"], "stdout"),
        (&["nothing"], "nothing"),
    ] {
        let refused = cache.run(arguments).expect(2);
        assert!(refused.stderr.contains(message) && refused.stdout.is_empty(), "{arguments:?}: {refused:?}");
    }
    assert_eq!(cache.ids(), ["1"]);
    let absent = cache.run(&["add", "2", "absent"]).expect(1);
    assert!(absent.stderr.contains("cannot open 'absent': No such file or directory\n"), "{absent:?}");
}

#[test]
fn failures_are_json_for_programs() {
    let cache = Cache::new("sqlite");
    let failed = cache.run(&["--json", "show", "absent"]).expect(3);
    let error: serde_json::Value = serde_json::from_str(&failed.stderr).unwrap();
    assert_eq!((error["error"]["code"].as_str(), failed.stdout.as_str()), (Some("not_found"), ""));
    let failed = cache.run(&["--json", "delete", "absent", "b"]).expect(3);
    assert_eq!(failed.stderr.lines().count(), 2);
    let codes: Vec<_> =
        failed.json()["failed"].as_array().unwrap().iter().map(|failed| failed["code"].clone()).collect();
    assert_eq!(codes, ["not_found", "not_found"]);
}

/// Root could replace a device by a file, such as /dev/null.
#[test]
fn what_is_no_regular_file_is_never_replaced() {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    let cache = Cache::new("sqlite");
    cache.add("1", b"hello");
    let (fifo, link) = (cache.beside("fifo"), cache.beside("link"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    symlink(&fifo, &link).unwrap();
    for target in [fifo.to_str().unwrap(), link.to_str().unwrap()] {
        for arguments in [
            ["export", "1", target, "--force"].as_slice(),
            &["metrics", "--textfile", target],
            &["metrics", "--history", target],
            &["report", "--html", target],
        ] {
            let refused = cache.run(arguments).expect(1);
            assert!(refused.stderr.contains("not a regular file"), "{arguments:?}: {refused:?}");
        }
    }
    assert!(fs::metadata(&link).unwrap().file_type().is_fifo() && fs::symlink_metadata(&link).unwrap().is_symlink());
    cache.run(&["metrics", "--textfile", "m.prom", "--json"]).expect(2);
}

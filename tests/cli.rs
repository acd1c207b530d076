//! The command line through the real binary: what an operator or a pipeline sees, and how each command ends.
//!
//! `offline` needs no service, `topics` a broker; `operator` tells one story with a running worker, on PostgreSQL and on
//! a SQLite file alike, in which everything that can go wrong for an entity does, and is set right by a command.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "cli/offline.rs"]
mod offline;
#[path = "cli/operator.rs"]
mod operator;
#[path = "support/services.rs"]
mod services;
#[path = "cli/topics.rs"]
mod topics;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value as Json;

/// How a command ended and what it said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// Runs a command without a terminal to its end.
    fn by(mut command: Command) -> Self {
        let done = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
    }

    /// Fails the test if it ended otherwise.
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "not said: {text}\n{self:#?}");
        self
    }

    #[track_caller]
    fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The program with no environment but this.
fn seriatim(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seriatim"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    Said::by(command)
}

/// A folder of a test's own, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(services::unique("seriatim-cli"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The repository's manifests, to be spoilt.
    fn of_manifests() -> Self {
        let folder = Self::new();
        for entry in fs::read_dir(manifests()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.0.join(entry.file_name())).unwrap();
        }
        folder
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Replaces a text in a file, which must hold it.
    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.0.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} holds no {from:?}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn manifests() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/topics"))
}

//! A PostgreSQL primary and its standbys of one test's own, on free ports, in the machine's temporary folder.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::net::TcpStream;

/// One server. Its processes and its folder go with it.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    pub port: u16,
}

/// Where the newest PostgreSQL's programs are.
fn programs() -> PathBuf {
    let root = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(root).expect("PostgreSQL's package is installed, as dev/services does it");
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    root.join(newest.expect("a version of PostgreSQL").to_string()).join("bin")
}

/// A free port: nobody else asks for it in the moment until the server has it.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Runs a program of PostgreSQL. The server refuses to run as root: then it runs as the package's own user.
fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let program = programs().join(program);
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = if root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "env", "HOME=/nonexistent"]);
        command.arg(&program);
        command
    } else {
        Command::new(&program)
    };
    let log = fs::File::create(folder.with_extension("run.log")).expect("a file for what the program says");
    let errors = log.try_clone().expect("the same file");
    let ended = command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors).status();
    let said = || fs::read_to_string(folder.with_extension("run.log")).unwrap_or_default();
    assert!(ended.expect("run a program of PostgreSQL").success(), "{}: {}", program.display(), said());
}

impl Server {
    fn place(label: &str) -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let folder = std::env::temp_dir().join(format!("seriatim-{label}-{}", &unique[..12]));
        Self { folder, port: free_port() }
    }

    fn path(&self) -> &str {
        self.folder.to_str().expect("the temporary folder's name is text")
    }

    /// A primary, running.
    pub fn primary() -> Self {
        let server = Self::place("primary");
        let name = ["--username", "postgres", "--encoding", "UTF8", "--auth", "trust"];
        run(
            &server.folder,
            "initdb",
            &[&["--pgdata", server.path(), "--no-sync", "--no-instructions"], &name[..]].concat(),
        );
        server.start();
        server
    }

    /// A standby of this server that connects under a name, running.
    pub fn standby(&self, name: &str) -> Self {
        let server = Self::place("standby");
        let source = format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.port);
        let with = ["--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync"];
        run(&server.folder, "pg_basebackup", &[&["--dbname", &source, "--pgdata", server.path()], &with[..]].concat());
        server.start();
        server
    }

    /// Starts it, and returns when it takes connections.
    pub fn start(&self) {
        let log = self.folder.with_extension("log");
        // Loopback over TCP and nothing else. The disk is not what is tested.
        let options = format!(
            "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=50",
            self.port
        );
        let fixed = ["start", "--wait", "--timeout", "60", "--silent"];
        let said = ["--pgdata", self.path(), "--log", log.to_str().expect("text"), "--options", &options];
        run(&self.folder, "pg_ctl", &[&fixed[..], &said].concat());
    }

    /// Stops it at once, without a word to those who are connected.
    pub fn kill(&self) {
        run(&self.folder, "pg_ctl", &["stop", "--pgdata", self.path(), "--mode", "immediate", "--wait"]);
    }

    /// Makes a standby the primary of a new timeline.
    pub fn promote(&self) {
        run(&self.folder, "pg_ctl", &["promote", "--pgdata", self.path(), "--wait"]);
    }

    /// Where its database for administration is.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.folder.join("postmaster.pid").exists() {
            self.kill();
        }
        for path in [self.folder.clone(), self.folder.with_extension("log"), self.folder.with_extension("run.log")] {
            let _gone = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}

/// An address that leads to whichever server is the primary now.
#[derive(Debug)]
pub struct Switch {
    pub port: u16,
    to: Arc<AtomicU16>,
}

impl Switch {
    /// Leads to this server.
    pub async fn to(server: &Server) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let to = Arc::new(AtomicU16::new(server.port));
        let target = Arc::clone(&to);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let port = target.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    // A server that is gone answers with an end; that is what the worker shall see.
                    if let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { port, to }
    }

    /// Leads to another server from now on.
    pub fn turn(&self, server: &Server) {
        self.to.store(server.port, Ordering::SeqCst);
    }
}

//! What tests on real services share: addresses, databases and topics of their own, workers as processes.
//!
//! A service that does not answer fails the test with what to do about it: a test that skips itself is no test.
//! Waiting is always for a condition, with a bound on the whole; nothing sleeps in the hope that it suffices.

#![allow(dead_code, reason = "each test takes what it needs of this file")]

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    future::Future,
    net::{TcpStream, ToSocketAddrs},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

/// Home topics of the contract, without prefix.
pub const HOME_TOPICS: [&str; 5] = ["purchases", "payments", "stock", "profiles", "activity"];
/// Outgoing topics of the contract, without prefix.
pub const OUTGOING_TOPICS: [&str; 2] = ["payment-requests", "purchase-outcomes"];
/// Partitions of every topic that a test creates.
pub const PARTITIONS: i32 = 4;
/// Pause between two looks at a condition: short against what is waited for, long against a look's own cost.
const LOOK_PAUSE: Duration = Duration::from_millis(25);
/// How long a service may take to answer at all.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

/// The Kafka of the tests, `host:port`.
pub fn kafka() -> String {
    let address = env::var("SERIATIM_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned());
    require(&address, "Kafka");
    address
}

/// The PostgreSQL of the tests: the URL of a superuser, `postgres://user@host:port/database`.
pub fn postgres() -> String {
    let url = env::var("SERIATIM_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:25432/postgres".to_owned());
    let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host).rsplit('@').next().unwrap_or(host);
    require(host, "PostgreSQL");
    url
}

/// The Python that has the Kafka client of the foreign producer.
pub fn python() -> PathBuf {
    let chosen = env::var_os("SERIATIM_TEST_PYTHON").map(PathBuf::from);
    let python = chosen.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".services/venv/bin/python"));
    let ready = Command::new(&python).args(["-c", "import confluent_kafka"]).output();
    let ready = ready.is_ok_and(|output| output.status.success());
    assert!(ready, "{} has no confluent_kafka: run dev/test, which makes it", python.display());
    python
}

fn require(address: &str, service: &str) {
    let mut found = address.to_socket_addrs().into_iter().flatten();
    let answers = found.any(|address| TcpStream::connect_timeout(&address, ANSWER_BOUND).is_ok());
    assert!(answers, "{service} does not answer on {address}: run dev/services up");
}

/// A name that no other test and no other run uses.
pub fn unique(label: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{label}-{}", &id[..12])
}

/// Looks until the condition holds; fails the test, saying what it waited for, if the bound passes first.
pub async fn wait_until<F, Look>(what: &str, bound: Duration, mut look: F)
where
    F: FnMut() -> Look,
    Look: Future<Output = bool>,
{
    let began = Instant::now();
    while !look().await {
        assert!(began.elapsed() < bound, "waited {bound:?} in vain: {what}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// A database of one test's own.
#[derive(Debug)]
pub struct Database {
    /// Where it is.
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
    name: String,
    server: String,
}

impl Database {
    /// Creates an empty one.
    pub async fn create(label: &str) -> Self {
        Self::create_on(postgres(), label).await
    }

    /// Creates an empty one on a server of the test's own.
    pub async fn create_on(server: String, label: &str) -> Self {
        let name = unique(label).replace('-', "_");
        let admin = PgPoolOptions::new().max_connections(1).connect(&server).await.expect("connect to PostgreSQL");
        let create = AssertSqlSafe(format!("create database {name}"));
        sqlx::query(create).execute(&admin).await.expect("create a database");
        admin.close().await;
        let (base, _) = server.rsplit_once('/').expect("the URL of PostgreSQL names a database");
        let url = format!("{base}/{name}");
        let pool = PgPoolOptions::new().max_connections(2).connect(&url).await.expect("connect to the new database");
        Self { url, pool, name, server }
    }

    /// One number out of a query; none if the query finds no row or null.
    pub async fn number(&self, sql: &str) -> Option<i64> {
        let found =
            sqlx::query_scalar::<_, Option<i64>>(AssertSqlSafe(sql.to_owned())).fetch_optional(&self.pool).await;
        found.unwrap_or_else(|error| panic!("asking the database ({sql}): {error}")).flatten()
    }

    /// Texts out of a query of one text column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let found = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await;
        found.unwrap_or_else(|error| panic!("asking the database ({sql}): {error}"))
    }

    /// How many records all lanes have taken.
    pub async fn taken(&self) -> i64 {
        self.number("select sum(next_offset)::bigint from seriatim.lane").await.unwrap_or(0)
    }

    /// Drops it. A failed test leaves its database behind, to be looked at.
    pub async fn drop(self) {
        self.pool.close().await;
        let admin = PgPoolOptions::new().max_connections(1).connect(&self.server).await.expect("connect to PostgreSQL");
        let drop = AssertSqlSafe(format!("drop database {} with (force)", self.name));
        sqlx::query(drop).execute(&admin).await.expect("drop the database");
    }
}

/// Topics of one test's own: those of the contract under a prefix.
#[derive(Clone, Debug)]
pub struct Topics {
    /// What stands before every name.
    pub prefix: String,
}

impl Topics {
    /// Creates them all, with their topics for dead letters, and returns when the broker shows every partition.
    pub async fn create(brokers: &str, label: &str) -> Self {
        let topics = Self { prefix: format!("{}.", unique(label)) };
        let admin = admin(brokers);
        let names = topics.names();
        let wanted: Vec<NewTopic<'_>> =
            names.iter().map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))).collect();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        for created in admin.create_topics(&wanted, &options).await.expect("create topics") {
            created.expect("create a topic");
        }
        let expected = usize::try_from(PARTITIONS).expect("a count of partitions is small and positive");
        for name in &names {
            let shown = || async {
                let metadata =
                    admin.inner().fetch_metadata(Some(name), Duration::from_secs(10)).expect("ask for a topic");
                let led = |topic: &rdkafka::metadata::MetadataTopic| {
                    topic.partitions().len() == expected && topic.partitions().iter().all(|one| one.leader() >= 0)
                };
                metadata.topics().iter().all(led)
            };
            wait_until(&format!("topic {name} is visible"), Duration::from_secs(60), shown).await;
        }
        topics
    }

    /// A topic's full name.
    pub fn name(&self, plain: &str) -> String {
        format!("{}{plain}", self.prefix)
    }

    /// The full name of the topic for a topic's dead letters.
    pub fn dead_letters(&self, plain: &str) -> String {
        format!("dlq.{}{plain}", self.prefix)
    }

    fn names(&self) -> Vec<String> {
        let all = HOME_TOPICS.iter().chain(&OUTGOING_TOPICS).map(|plain| self.name(plain));
        all.chain(HOME_TOPICS.iter().map(|plain| self.dead_letters(plain))).collect()
    }

    /// Deletes them.
    pub async fn delete(self, brokers: &str) {
        let names = self.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        admin(brokers).delete_topics(&names, &AdminOptions::new()).await.expect("delete topics");
    }
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().expect("make an admin client")
}

/// Where the processes of a test write what they say.
pub fn logs(label: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(label);
    fs::create_dir_all(&folder).expect("make a folder for logs");
    folder
}

/// A program that a test started; it does not outlive the test.
#[derive(Debug)]
pub struct Process {
    /// What it is called in messages.
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command with its output in a log of its own.
    pub fn start(mut command: Command, name: &str, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).expect("create a log");
        let errors = file.try_clone().expect("share a log");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// The system's number of it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of what it has said: enough to see in a failed test why it ended.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("{} ({}):\n{}", self.name, self.log.display(), lines[lines.len().saturating_sub(30)..].join("\n"))
    }

    /// Fails the test if it has ended.
    pub fn expect_running(&mut self) {
        let ended = self.child.try_wait().expect("ask for a process");
        assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.name, self.log_end());
    }

    /// Ends it with SIGKILL, as a machine would that fails: it gets to finish nothing.
    pub fn kill(mut self) {
        self.expect_running();
        self.child.kill().expect("kill a process");
        self.child.wait().expect("wait for a killed process");
    }

    /// Asks it to end with SIGTERM.
    pub fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// Sends it a signal: `STOP` freezes it, `CONT` lets it go on.
    pub fn signal(&mut self, name: &str) {
        self.expect_running();
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "sending SIG{name} to {}", self.name);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, bound: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("ask for a process") {
                return status;
            }
            assert!(began.elapsed() < bound, "not ended within {bound:?}: {}", self.log_end());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Asks it to end and demands that it does so well.
    pub async fn stop(mut self, bound: Duration) {
        self.terminate();
        let status = self.ended(bound).await;
        assert!(status.success(), "ended with {status}: {}", self.log_end());
    }

    /// Fails the test if it has panicked anywhere, even where that was caught.
    pub fn expect_no_panic(&self) {
        assert!(!self.log().contains("panicked"), "a panic: {}", self.log_end());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ends it also when the test fails; one that has ended already makes these fail, and that is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How the workers of a test are configured.
#[derive(Clone, Debug)]
pub struct Worker {
    settings: BTreeMap<String, String>,
}

impl Worker {
    /// Workers of one group on a test's own topics and database; deadlines short, so that a test need not wait long.
    pub fn new(brokers: &str, topics: &Topics, database: &Database) -> Self {
        Self::at(brokers, topics, &database.url)
    }

    /// The same on a database given by its URL.
    pub fn at(brokers: &str, topics: &Topics, url: &str) -> Self {
        let group = format!("{}workers", topics.prefix);
        let settings = [
            ("KAFKA__BROKERS", brokers),
            ("KAFKA__GROUP_ID", &group),
            ("KAFKA__SESSION_TIMEOUT", "6s"),
            ("DATABASE__IDLE_IN_TRANSACTION_TIMEOUT", "4s"),
            ("TOPICS__PREFIX", &topics.prefix),
            ("DATABASE__URL", url),
            // Any free port: several workers run side by side.
            ("HTTP__LISTEN", "127.0.0.1:0"),
            ("SAGA__CAPTURE_RETRY", "2s"),
            ("SAGA__CAPTURE_ATTEMPTS", "30"),
            ("SAGA__REFUND_RETRY", "2s"),
            ("SAGA__REFUND_ATTEMPTS", "30"),
        ];
        let settings = settings.map(|(name, value)| (format!("SERIATIM_{name}"), value.to_owned()));
        Self { settings: settings.into() }
    }

    /// Another setting, by the end of its environment name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(format!("SERIATIM_{name}"), value.to_owned());
        self
    }

    /// With what the image sets for every process.
    #[must_use]
    pub fn with_image_settings(mut self) -> Self {
        let set =
            include_str!("../../Dockerfile").lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
        self.settings.extend(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// A command of the program with the worker's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seriatim"));
        command.args(arguments).envs(&self.settings);
        command
    }

    /// Brings the database to the schema that the worker wants.
    pub fn migrate(&self) {
        let done = self.command(&["migrate", "up"]).output().expect("run seriatim migrate up");
        let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "seriatim migrate up: {}\n{said}", done.status);
    }

    /// Starts a worker.
    pub fn start(&self, name: &str, folder: &Path) -> Process {
        Process::start(self.command(&["run"]), name, folder)
    }
}

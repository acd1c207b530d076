//! The outside world of a test: the Python programs of `end_to_end/` that produce, answer payments and judge.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::services::{Database, Process, Topics, kafka, python};

/// Seconds for draining: deadlines of gaps and orphans, requests made again, and a slow machine.
const DRAIN_SECONDS: &str = "240";
/// Everything has to be over by then, or a program hangs.
const OUTER: Duration = Duration::from_secs(300);

/// The programs of the outside world.
pub struct Outside {
    python: PathBuf,
    brokers: String,
    prefix: String,
    start: String,
    scale: String,
    logs: PathBuf,
}

impl Outside {
    /// A world on a test's own topics. `scale`: how much there is of everything, 1 being the whole of it.
    pub fn new(topics: &Topics, logs: &Path, scale: &str) -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970").as_secs();
        Self {
            python: python(),
            brokers: kafka(),
            prefix: topics.prefix.clone(),
            start: start.to_string(),
            scale: scale.to_owned(),
            logs: logs.to_owned(),
        }
    }

    fn start(&self, script: &str, arguments: &[&str], name: &str) -> Process {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end");
        let mut command = Command::new(&self.python);
        command.current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1").arg("-u").arg(script).args(arguments);
        command.args(["--brokers", &self.brokers, "--prefix", &self.prefix]);
        Process::start(command, name, &self.logs)
    }

    /// Starts the payment gateway.
    pub fn gateway(&self) -> Process {
        self.start("gateway.py", &[], "gateway")
    }

    /// Starts to produce one phase of the stream, or all of it.
    pub fn produce(&self, phase: Option<&str>) -> Process {
        let mut arguments = vec!["produce", "--seed", "20250", "--start", &self.start, "--scale", &self.scale];
        arguments.extend(phase.into_iter().flat_map(|phase| ["--phase", phase]));
        self.start("world.py", &arguments, &format!("producer-{}", phase.unwrap_or("all")))
    }

    /// Waits until the workers have nothing left to do (`drained`), or lets the model judge what there is (`judge`).
    pub async fn judge(&self, action: &str, database: &Database) {
        let arguments = [action, "--database", &database.url, "--seconds", DRAIN_SECONDS, "--scale", &self.scale];
        let mut model = self.start("model.py", &arguments, action);
        let status = model.ended(OUTER).await;
        println!("{}", model.log());
        assert!(status.success(), "the model says {status} to {action}:\n{}", model.log());
    }
}

/// Waits until a producer has ended, well and within the bound.
pub async fn finished(mut producer: Process, bound: Duration) {
    let status = producer.ended(bound).await;
    assert!(status.success(), "producing: {status}\n{}", producer.log_end());
}

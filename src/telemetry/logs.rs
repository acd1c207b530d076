//! The log on standard error, written by a thread of its own behind a queue with a bound.
//!
//! Whoever reads the log may stop reading: a full pipe then blocks the writer. If that were a worker's task, its lanes
//! would stand still because of a log. So lines are queued, and those that find the queue full are dropped and counted.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tracing::Dispatch;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

use super::Metrics;
use crate::config::{Log, LogFormat};

/// Bytes of lines that wait for the writing thread at most.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// How long the end of the process waits for the last lines.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The filter is not one; the configuration has let it through.
    #[error("reading the log filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The operating system gives no thread.
    #[error("starting the log's thread")]
    Thread(#[from] io::Error),
    /// The process has a log already.
    #[error("installing the log")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts the log of this process. Keep what is returned until the end: dropping it waits for the last lines.
///
/// # Errors
/// If the process has one already, or gives no thread.
pub fn start(log: &Log, metrics: &Metrics) -> Result<Flush, StartError> {
    let lines = Lines::spawn(io::stderr(), QUEUE_BYTES_MAX, metrics.log_lines_dropped().clone())?;
    let flush = Flush(lines.clone());
    subscriber(log, lines)?.try_init()?;
    Ok(flush)
}

fn subscriber(log: &Log, lines: Lines) -> Result<Dispatch, StartError> {
    let filter = EnvFilter::builder().parse(&log.level)?;
    let line = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    Ok(match log.format {
        LogFormat::Text => line.with_ansi(io::stderr().is_terminal()).into(),
        // Fields stand beside the message, so that `entity` or `offset` is found without knowing where it is nested.
        LogFormat::Json => line.json().flatten_event(true).into(),
    })
}

/// Waits for the last lines when dropped, though not for ever.
#[derive(Debug)]
pub struct Flush(Lines);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush_within(FLUSH_DEADLINE);
    }
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    drained: Condvar,
}

impl Queue {
    /// A panic while the lock is held leaves the queue whole: nothing in between can break it.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The near end of the queue: each write is one whole line, as the subscriber hands it over.
#[derive(Clone, Debug)]
struct Lines {
    queue: Arc<Queue>,
    bytes_max: usize,
    dropped: IntCounter,
}

impl Lines {
    fn spawn(out: impl Write + Send + 'static, bytes_max: usize, dropped: IntCounter) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let far = Arc::clone(&queue);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&far, out))?;
        Ok(Self { queue, bytes_max, dropped })
    }

    fn flush_within(&self, deadline: Duration) {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        drop(self.queue.drained.wait_timeout_while(self.queue.lock(), deadline, busy));
    }
}

/// Takes all that waits, writes it, and starts again. Lives as long as the process.
fn write_lines(queue: &Queue, mut out: impl Write) {
    loop {
        let mut waiting = queue.lock();
        waiting.is_writing = false;
        queue.drained.notify_all();
        while waiting.lines.is_empty() {
            waiting = queue.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_writing = true;
        // What is being written still counts as waiting until it is out, or the bound would hold twice as much.
        let (lines, bytes) = (mem::take(&mut waiting.lines), waiting.bytes);
        drop(waiting);
        for line in lines {
            // Nobody reads the log any more: there is nowhere left to say so.
            drop(out.write_all(&line));
        }
        queue.lock().bytes -= bytes;
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.queue.lock();
        if waiting.bytes + line.len() > self.bytes_max {
            self.dropped.inc();
        } else {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.to_vec());
            self.queue.arrived.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Hands on each line only when told to.
    struct Pipe {
        go: Receiver<()>,
        out: Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(io::Error::other)?;
            self.out.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Sent(Sender<Vec<u8>>);

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `tell` leaves in a log of this format.
    fn logged(format: LogFormat, level: &str, tell: impl FnOnce()) -> Vec<String> {
        let (out, written) = channel();
        let lines = Lines::spawn(Sent(out), QUEUE_BYTES_MAX, IntCounter::new("dropped", "lines").unwrap()).unwrap();
        let flush = Flush(lines.clone());
        let log = Log { format, level: level.to_owned() };
        tracing::dispatcher::with_default(&subscriber(&log, lines).unwrap(), tell);
        drop(flush);
        written.try_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn a_json_line_has_its_fields_beside_the_message() {
        let lines = logged(LogFormat::Json, "info", || {
            tracing::info!(entity = "sku-1", partition = 3, offset = 17_i64, "entity is in quarantine");
            tracing::debug!("not asked for");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["message"], "entity is in quarantine");
        assert_eq!((&line["entity"], &line["partition"], &line["offset"]), (&"sku-1".into(), &3.into(), &17.into()));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_strangers_text_stays_on_its_line_in_both_formats() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged(format, "info", || {
                tracing::warn!(entity = "a\nb\u{1b}[2J", "entity is in quarantine");
            });
            assert_eq!(lines.len(), 1);
            assert_eq!(lines[0].matches('\n').count(), 1, "{lines:?}");
            assert!(!lines[0].contains('\u{1b}'), "{lines:?}");
        }
    }

    #[test]
    fn a_blocked_reader_costs_lines_and_never_time() {
        let (go, wait) = channel();
        let (out, written) = channel();
        let dropped = IntCounter::new("dropped", "lines").unwrap();
        let mut lines = Lines::spawn(Pipe { go: wait, out }, 10, dropped.clone()).unwrap();
        // Nothing is read yet, and still every write returns.
        for line in ["1234\n", "5678\n", "lost\n", "lost\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(dropped.get(), 2);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), b"1234\n");
        assert_eq!(written.recv().unwrap(), b"5678\n");
        lines.flush_within(Duration::from_secs(60));
        // The room is free again.
        lines.write_all(b"more\n").unwrap();
        assert_eq!(dropped.get(), 2);
        go.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), b"more\n");
    }
}

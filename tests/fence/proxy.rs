//! A wire between a worker and PostgreSQL or Kafka that a test can cut, at the very statement if it wants to.

#![allow(dead_code, reason = "each test takes what it needs of this file")]

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Where a connection to PostgreSQL is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// COMMIT does not reach the server.
    Before,
    /// COMMIT is executed and its answer is lost.
    After,
    /// This one passes.
    Not,
}

/// What both sides of all connections share.
#[derive(Debug, Default)]
struct Plan {
    cuts: Mutex<VecDeque<Cut>>,
    commits: AtomicU64,
    done: AtomicU64,
}

/// A proxy that runs until it is dropped or cut.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
    cut: watch::Sender<bool>,
}

impl Proxy {
    /// In front of PostgreSQL.
    pub async fn postgres(upstream: &str) -> Self {
        Self::start(upstream, Protocol::Postgres).await
    }

    /// In front of a single Kafka broker, which is made to give the proxy's port for its own.
    pub async fn kafka(upstream: &str) -> Self {
        let port = upstream.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a broker has a port");
        Self::start(upstream, Protocol::Kafka { port }).await
    }

    async fn start(upstream: &str, protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen on a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let plan = Arc::new(Plan::default());
        let (cut, watching) = watch::channel(false);
        let (upstream, shared) = (upstream.to_owned(), Arc::clone(&plan));
        tokio::spawn(async move {
            let mut ended = watching.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // Cut or dropped: from now on connections are refused.
                    _ = ended.wait_for(|cut| *cut) => return,
                };
                let Ok((client, _)) = accepted else { return };
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                tokio::spawn(join(client, server, protocol, address.port(), Arc::clone(&shared), watching.clone()));
            }
        });
        Self { address, plan, cut }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts the coming COMMITs in this way, one after the other.
    pub fn plan(&self, cuts: impl IntoIterator<Item = Cut>) {
        self.plan.cuts.lock().expect("no test panics with the plan in hand").extend(cuts);
    }

    /// How many connections were cut at a COMMIT.
    pub fn cuts_made(&self) -> u64 {
        self.plan.done.load(Ordering::SeqCst)
    }

    /// Ends all connections and refuses new ones.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Postgres,
    Kafka { port: u16 },
}

async fn join(
    client: TcpStream,
    server: TcpStream,
    protocol: Protocol,
    own_port: u16,
    plan: Arc<Plan>,
    mut cut: watch::Receiver<bool>,
) {
    let _slow = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let swallow = Arc::new(AtomicBool::new(false));
    let both = async {
        match protocol {
            Protocol::Postgres => tokio::select! {
                ended = requests(from_client, to_server, &plan, &swallow) => ended,
                ended = answers(from_server, to_client, &plan, &swallow) => ended,
            },
            Protocol::Kafka { port } => tokio::select! {
                ended = copy(from_client, to_server) => ended,
                ended = brokers(from_server, to_client, port, own_port) => ended,
            },
        }
    };
    tokio::select! {
        // Whatever ends one side ends both: the halves are dropped here.
        _ended = both => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

/// Client to server of PostgreSQL, message by message; returns where the connection is to be cut.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    plan: &Plan,
    swallow: &AtomicBool,
) -> io::Result<()> {
    let mut startup = frame(&mut from, Vec::new()).await?;
    to.write_all(&startup).await?;
    loop {
        startup.clear();
        startup.push(from.read_u8().await?);
        let message = frame(&mut from, std::mem::take(&mut startup)).await?;
        if message[0] == b'Q' && &message[5..] == b"commit\0" {
            plan.commits.fetch_add(1, Ordering::SeqCst);
            let next = plan.cuts.lock().expect("no test panics with the plan in hand").pop_front();
            match next.unwrap_or(Cut::Not) {
                Cut::Not => {}
                Cut::Before => {
                    plan.done.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                Cut::After => swallow.store(true, Ordering::SeqCst),
            }
        }
        to.write_all(&message).await?;
    }
}

/// Reads the rest of a message: its length, which counts itself, and what follows.
async fn frame(from: &mut OwnedReadHalf, mut message: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let at = message.len();
    message.resize(at + usize::try_from(length).expect("32 bits fit") - 4, 0);
    from.read_exact(&mut message[at..]).await?;
    Ok(message)
}

/// Server to client of PostgreSQL; returns when the answer to be lost has come.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: &Plan, swallow: &AtomicBool) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        // Requests and answers take turns, so what comes now answers the COMMIT.
        if swallow.load(Ordering::SeqCst) {
            plan.done.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        to.write_all(&bytes[..count]).await?;
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await.map(drop)
}

/// Broker to client of Kafka, answer by answer, with the broker's port replaced wherever it stands after its host.
async fn brokers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, port: u16, own_port: u16) -> io::Result<()> {
    let place = |port: u16| [b"127.0.0.1".as_slice(), &u32::from(port).to_be_bytes()].concat();
    let (theirs, ours) = (place(port), place(own_port));
    loop {
        let length = from.read_u32().await?;
        let mut answer = vec![0; usize::try_from(length).expect("32 bits fit")];
        from.read_exact(&mut answer).await?;
        let mut at = 0;
        while let Some(found) = answer[at..].windows(theirs.len()).position(|bytes| bytes == theirs) {
            answer[at + found..at + found + ours.len()].copy_from_slice(&ours);
            at += found + ours.len();
        }
        to.write_u32(length).await?;
        to.write_all(&answer).await?;
    }
}

//! Connections with bounds: how many at once, how long each, and how much each may send.
//!
//! The bounds lie below HTTP, where nothing that a client sends can get past them: not a slow header, not an endless
//! body, not a thousand idle sockets.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// Connections at once; others wait to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// How long a connection lives. A probe gives up after a second, a scrape after ten.
pub(super) const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request, header and body together.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 10;

/// A listener whose connections are [`Bounded`].
pub(super) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener, deadline: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), deadline }
    }
}

impl Listener for BoundedListener {
    type Io = Bounded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Bounded, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        // The inner listener waits by itself when the process is out of sockets.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let place = place.expect("the semaphore is never closed");
        let deadline = Box::pin(sleep(self.deadline));
        (Bounded { stream, deadline, bytes_left: REQUEST_BYTES_MAX, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection within its bounds.
pub(super) struct Bounded {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    bytes_left: usize,
    _place: OwnedSemaphorePermit,
}

impl Bounded {
    /// Fails once the time is up; otherwise has this task woken when it will be.
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_deadline(context)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        match this.bytes_left.checked_sub(read) {
            Some(left) => this.bytes_left = left,
            None => return Poll::Ready(Err(io::Error::other("the request is too large"))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_deadline(context)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

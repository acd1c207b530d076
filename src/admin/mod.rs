//! The HTTP face: `/livez`, `/readyz`, `/metrics`. All that names axum.
//!
//! It answers from memory alone: a database or a broker that is down must neither block an answer nor fail liveness,
//! because a restart would not bring them back. Each connection serves one request, within a deadline and a number of
//! bytes, and there are only so many at once: whoever sends slowly or much takes nothing from the worker.

mod bounded;
mod health;

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use self::bounded::BoundedListener;
pub use self::health::{Health, Lanes, Readiness};
use crate::telemetry::Metrics;

#[derive(Clone)]
struct Shown {
    health: Arc<Health>,
    metrics: Metrics,
}

/// Serves until `shutdown` ends, then finishes the requests under way, which have a deadline of their own.
///
/// # Errors
/// If the socket fails.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = BoundedListener::new(listener, bounded::CONNECTION_DEADLINE);
    serve_bounded(listener, health, metrics, shutdown).await
}

async fn serve_bounded(
    listener: BoundedListener,
    health: Arc<Health>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Shown { health, metrics })
        .layer(map_response(close));
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await
}

/// One request a connection: what a probe asks is not worth keeping a socket for. Holds for every answer, 404 included.
async fn close(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn livez(State(shown): State<Shown>) -> Response {
    match shown.health.liveness() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let readiness = shown.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let json = [(header::CONTENT_TYPE, "application/json")];
    match serde_json::to_string(&readiness) {
        Ok(body) => (status, json, body).into_response(),
        Err(error) => failed("the readiness", &error),
    }
}

async fn render(State(shown): State<Shown>) -> Response {
    let format = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    match shown.metrics.render() {
        Ok(body) => (format, body).into_response(),
        Err(error) => failed("the metrics", &error),
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("writing {what}: {error}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpStream},
        time::Duration,
    };

    use tokio::{sync::oneshot, task::JoinHandle};

    use super::*;

    struct Running {
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Metrics,
        stop: oneshot::Sender<()>,
        server: JoinHandle<io::Result<()>>,
    }

    async fn running() -> Running {
        running_within(bounded::CONNECTION_DEADLINE).await
    }

    async fn running_within(deadline: Duration) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::new(Duration::from_secs(60)));
        let metrics = Metrics::new();
        let (stop, stopped) = oneshot::channel::<()>();
        // A test that lets go of `stop` without a word wants the server to go on.
        let shutdown = async {
            if stopped.await.is_err() {
                std::future::pending().await
            }
        };
        let server = tokio::spawn(serve_bounded(
            BoundedListener::new(listener, deadline),
            Arc::clone(&health),
            metrics.clone(),
            shutdown,
        ));
        Running { address, health, metrics, stop, server }
    }

    async fn exchange(address: SocketAddr, request: Vec<u8>) -> String {
        tokio::task::spawn_blocking(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            // Only a server that never answers gets this far, and then the test fails.
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            // A server that hangs up in the middle of what we send is an answer too.
            drop(socket.write_all(&request));
            let mut answer = Vec::new();
            drop(socket.read_to_end(&mut answer));
            String::from_utf8(answer).unwrap()
        })
        .await
        .unwrap()
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        exchange(address, format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").into_bytes()).await
    }

    #[tokio::test]
    async fn a_worker_that_starts_is_alive_and_not_ready() {
        let Running { address, .. } = running().await;
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("the group is not joined"), "{answer}");
        assert!(answer.contains("the store does not answer"), "{answer}");
    }

    #[tokio::test]
    async fn a_settled_worker_is_ready_until_it_drains() {
        let Running { address, health, .. } = running().await;
        health.joined(true);
        health.store_answers(true);
        health.lanes(Lanes { assigned: 3, claimed: 2, halted: 1 });
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(r#""lanes":{"assigned":3,"claimed":2,"halted":1}"#), "{answer}");
        health.drain();
        assert!(ask(address, "/readyz").await.contains("the worker is draining"));
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn a_fatal_error_ends_liveness() {
        let Running { address, health, .. } = running().await;
        health.fatal("the client was fenced");
        let answer = ask(address, "/livez").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the client was fenced"), "{answer}");
    }

    #[tokio::test]
    async fn metrics_are_served_in_their_text_format() {
        let Running { address, metrics, .. } = running().await;
        metrics.records("stock", "applied", 5);
        let answer = ask(address, "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("{outcome=\"applied\",topic=\"stock\"} 5"), "{answer}");
        let nothing = ask(address, "/nothing").await;
        assert!(nothing.starts_with("HTTP/1.1 404 ") && nothing.contains("connection: close"), "{nothing}");
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_gets_no_answer() {
        let Running { address, .. } = running().await;
        let sized = |bytes: usize| format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(bytes)).into_bytes();
        assert!(exchange(address, sized(bounded::REQUEST_BYTES_MAX / 2)).await.contains("200 OK"));
        assert!(!exchange(address, sized(bounded::REQUEST_BYTES_MAX + 1)).await.contains("200 OK"));
    }

    #[tokio::test]
    async fn idle_connections_make_room_in_the_end() {
        let Running { address, .. } = running_within(Duration::from_millis(100)).await;
        let idle: Vec<_> = (0..bounded::CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        let answer = ask(address, "/livez").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(idle);
    }

    #[tokio::test]
    async fn the_server_ends_when_told() {
        let Running { stop, server, .. } = running().await;
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}

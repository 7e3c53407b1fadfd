//! The loop on tokio-uring: a task per target; buffers are handed to the kernel and come back.

use std::io;
use std::sync::Arc;

use tokio::time::{sleep_until, timeout};
use tokio_uring::net::TcpStream;

use crate::client::{Client, Exchange, TIMEOUT};
use crate::load::Link;
use crate::meter::Figures;

/// Runs the load.
pub fn run(client: Arc<Client>) -> io::Result<Figures> {
    tokio_uring::start(async {
        for (mark, mark_ns) in client.load.marks_ns().into_iter().enumerate() {
            for target in client.newcomers(mark) {
                tokio_uring::spawn(scrapes(Arc::clone(&client), target));
            }
            sleep_until(client.at(mark_ns).into()).await;
            client.look();
        }
        Ok(client.figures())
    })
}

/// All scrapes of a target.
async fn scrapes(client: Arc<Client>, target: u32) {
    let mut kept = None;
    for round in 0.. {
        let due = client.due(target, round);
        sleep_until(due.into()).await;
        let mut exchange = client.exchange(target);
        let scrape = scrape(&client, target, &mut kept, &mut exchange);
        let result = timeout(TIMEOUT, scrape).await.unwrap_or_else(|e| Err(e.into()));
        client.ended(exchange, due, result);
    }
}

async fn scrape(client: &Client, target: u32, kept: &mut Option<TcpStream>, exchange: &mut Exchange) -> io::Result<()> {
    let stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(client.addr(target)).await?,
    };
    let (sent, request) = stream.write_all(std::mem::take(&mut exchange.request)).await;
    exchange.request = request;
    sent?;
    loop {
        let (received, buffer) = stream.read(std::mem::take(&mut exchange.buffer)).await;
        exchange.buffer = buffer;
        if exchange.answer.feed(&exchange.buffer[..received?])? {
            break;
        }
    }
    if client.load.link == Link::Keep {
        *kept = Some(stream);
    }
    Ok(())
}

//! The loop on tokio: current-thread runtime, a task per target that sleeps to its due times.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use crate::client::{Client, Exchange, TIMEOUT};
use crate::load::Link;
use crate::meter::Figures;

/// Runs the load.
pub fn run(client: Arc<Client>) -> io::Result<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for (mark, mark_ns) in client.load.marks_ns().into_iter().enumerate() {
            for target in client.newcomers(mark) {
                tokio::spawn(scrapes(Arc::clone(&client), target));
            }
            sleep_until(client.at(mark_ns).into()).await;
            client.look();
        }
    });
    Ok(client.figures())
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
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(client.addr(target)).await?,
    };
    stream.write_all(&exchange.request).await?;
    loop {
        let n = stream.read(&mut exchange.buffer).await?;
        if exchange.answer.feed(&exchange.buffer[..n])? {
            break;
        }
    }
    if client.load.link == Link::Keep {
        *kept = Some(stream);
    }
    Ok(())
}

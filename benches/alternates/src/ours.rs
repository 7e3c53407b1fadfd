//! The loop on our own engine: jobs started when due, one turn after another, no tasks.

use std::io;

use ringscrape::base::time::Now;
use ringscrape::engine::{Backend, Epoll, Uring, UringOptions};
use ringscrape::net::{self, Flow, Job, Net, Outcome, ResponseHead, Sink};

use crate::answer::Samples;
use crate::client::TIMEOUT;
use crate::load::{Link, Load};
use crate::meter::{Figures, Meter, Tally};
use crate::served::Address;

/// Runs the load on rings.
pub fn ring(load: Load, farm: Address) -> io::Result<Figures> {
    Ok(run(Uring::new(UringOptions::default()).map_err(io::Error::other)?, load, farm))
}

/// Runs the load on epoll.
pub fn epoll(load: Load, farm: Address) -> io::Result<Figures> {
    Ok(run(Epoll::new()?, load, farm))
}

/// A target between and during its scrapes.
#[derive(Clone, Copy, Debug, Default)]
struct Target {
    due_ns: u64,
    samples: Samples,
    is_busy: bool,
}

struct Scraper {
    load: Load,
    port: u16,
    targets: Vec<Target>,
    tally: Tally,
}

impl Sink for Scraper {
    fn request(&mut self, token: u32, out: &mut Vec<u8>) {
        self.load.request(token, self.port, out);
    }

    fn head(&mut self, _: u32, head: &ResponseHead<'_>) -> Flow {
        if head.status == 200 { Flow::More } else { Flow::Stop }
    }

    fn bytes(&mut self, token: u32, chunk: &[u8]) -> Flow {
        self.targets[token as usize].samples.feed(chunk);
        Flow::More
    }

    fn end(&mut self, token: u32, outcome: Outcome) {
        let target = &mut self.targets[token as usize];
        target.is_busy = false;
        match outcome {
            Outcome::Done(phases) if target.samples.count == self.load.samples => {
                self.tally.done(phases.last_byte - target.due_ns);
            }
            other => self.tally.failed(format_args!("{other:?}, {} samples", target.samples.count)),
        }
    }
}

fn run<B: Backend>(backend: B, load: Load, farm: Address) -> Figures {
    let (mut net, mut meter) = (Net::new(backend), Meter::new(farm));
    let targets = vec![Target::default(); load.targets as usize];
    let mut scraper = Scraper { load, port: farm.port, targets, tally: Tally::default() };
    let mut now = Now::read();
    let (start_ns, mut n) = (now.mono_ns, 0);
    for mark_ns in load.marks_ns() {
        while now.mono_ns < start_ns + mark_ns {
            while start_ns + load.due_ns(n) <= now.mono_ns {
                start(&mut net, &mut scraper, (n % u64::from(load.targets)) as u32, start_ns + load.due_ns(n));
                n += 1;
            }
            let wake_ns = start_ns + load.due_ns(n).min(mark_ns);
            now = net.turn(now, Some(wake_ns), &mut scraper);
        }
        meter.look(&load, &mut scraper.tally);
    }
    meter.figures(&load, &mut scraper.tally)
}

fn start<B: Backend>(net: &mut Net<B>, scraper: &mut Scraper, token: u32, due_ns: u64) {
    let target = &mut scraper.targets[token as usize];
    if target.is_busy {
        return scraper.tally.failed("still busy with the last scrape");
    }
    *target = Target { due_ns, samples: Samples::default(), is_busy: true };
    let link = match scraper.load.link {
        Link::Keep => net::Link::Keep,
        Link::Fresh => net::Link::Fresh,
    };
    let (addr, deadline_mono_ns) = (scraper.load.addr(token, scraper.port), due_ns + TIMEOUT.as_nanos() as u64);
    net.start(Job::plain(token, addr, link, deadline_mono_ns));
}

//! The farm: a process of its own on CPU 1, so that its CPU time is nobody else's.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use ringscrape::base::cpu;
use ringscrape::farm::{Farm, Population, Source, Spec};

/// How to reach the farm and its CPU clock.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// Of every target.
    pub port: u16,
    /// Its process.
    pub process: u32,
}

/// A farm's process; killed when dropped.
pub struct Served {
    child: Child,
    /// How to reach it.
    pub address: Address,
}

impl Served {
    /// Starts this program again as a farm.
    pub fn start(targets: u32, samples: u32) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut child = Command::new(program)
            .args(["farm", "--targets", &targets.to_string(), "--samples", &samples.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("farm: {e}"))?;
        let mut line = String::new();
        let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let address = Address { port: line.trim().parse().unwrap_or(0), process: child.id() };
        let served = Self { child, address };
        if served.address.port == 0 { Err(format!("farm: no port: {said:?}")) } else { Ok(served) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The farm's process: serves until it is killed.
pub fn serve(targets: u32, samples: u32) -> Result<(), String> {
    cpu::pin(1);
    let population = Population::new("alternates", targets, Source::Samples(samples));
    let farm = Farm::spawn(Spec::new(vec![population])).map_err(|e| e.to_string())?;
    println!("{}", farm.port);
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    loop {
        std::thread::park();
    }
}

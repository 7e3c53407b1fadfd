//! The `ringscrape` binary: everything is in the library, see `src/lib.rs` for the map.

fn main() -> std::process::ExitCode {
    ringscrape::app::main()
}

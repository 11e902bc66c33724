//! temporary
use std::sync::Arc;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut set = nix::sys::signal::SigSet::empty();
    for s in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT, nix::sys::signal::SIGUSR1] {
        set.add(s);
    }
    set.thread_block().unwrap();
    let path = std::path::Path::new(args.last().unwrap());
    let config = penstock::config::load(path)
        .unwrap_or_else(|e| {
            for m in e.iter() {
                eprintln!("{m:?}");
            }
            std::process::exit(1)
        })
        .config;
    let appliance = penstock::appliance::Appliance::start(Arc::new(config)).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1)
    });
    loop {
        match set.wait().unwrap() {
            nix::sys::signal::SIGUSR1 => penstock::metrics::log_totals(),
            _ => break,
        }
    }
    appliance.shut_down();
    penstock::metrics::log_totals();
}

//! Host names to addresses, by the system's resolver (`/etc/hosts`, DNS, whatever the host is set up for).
//!
//! `getaddrinfo` blocks and cannot be cancelled: it runs on plain threads, and who does not want to wait for it any
//! longer drops the future.

use futures_channel::oneshot;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// Questions that wait for a thread; past it the answer is "busy". Each destination asks one at a time.
const QUEUE: usize = 64;
/// Threads, so that one dead name server does not hold up every destination.
const THREADS: usize = 2;

struct Question {
    host: String,
    port: u16,
    answer: oneshot::Sender<Result<Vec<SocketAddr>, String>>,
}

/// A handle to the resolver threads; they end when the last handle is dropped.
#[derive(Clone)]
pub struct Resolver {
    questions: SyncSender<Question>,
}

impl Resolver {
    /// Starts the threads. Errors: a thread could not be made.
    pub fn start() -> std::io::Result<Resolver> {
        let (questions, waiting) = sync_channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..THREADS {
            let waiting = waiting.clone();
            std::thread::Builder::new().name(format!("resolver {number}")).spawn(move || serve(&waiting))?;
        }
        Ok(Resolver { questions })
    }

    /// The addresses of `host`, in the order in which to try them; at least one. An IP address is answered at once.
    /// Errors: why there is none, as text.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { host: host.into(), port, answer };
        self.questions.try_send(question).map_err(|_| "the name resolver is busy".to_string())?;
        answered.await.unwrap_or_else(|_| Err("the name resolver has stopped".into()))
    }
}

fn serve(waiting: &Mutex<Receiver<Question>>) {
    loop {
        let question = waiting.lock().map(|waiting| waiting.recv());
        let Ok(Ok(question)) = question else { return };
        if !question.answer.is_canceled() {
            let answer = look_up(&question.host, question.port);
            // Who asked may have stopped waiting.
            let _ = question.answer.send(answer);
        }
    }
}

fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found =
        (host, port).to_socket_addrs().map_err(|error| format!("{host}: {}", crate::log::without_number(&error)))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(format!("{host} has no address")) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            std::thread::park();
        }
    }

    #[test]
    fn names_and_addresses() {
        let resolver = Resolver::start().expect("threads");
        for (host, expected) in
            [("192.0.2.1", "192.0.2.1:25"), ("::1", "[::1]:25"), ("[2001:db8::1]", "[2001:db8::1]:25")]
        {
            assert_eq!(wait(resolver.resolve(host, 25)), Ok(vec![expected.parse().expect("address")]));
        }
        let local = wait(resolver.resolve("localhost", 25)).expect("in every hosts file");
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 25));
        assert!(wait(resolver.resolve("no such host", 25)).is_err());
    }

    #[test]
    fn a_full_queue_is_an_answer() {
        let (questions, _waiting) = sync_channel(0);
        let resolver = Resolver { questions };
        assert_eq!(wait(resolver.resolve("localhost", 25)), Err("the name resolver is busy".into()));
    }
}

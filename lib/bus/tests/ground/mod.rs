//! Where the tests of the bus take place: every one runs over sockets and in process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::{Address, Bus, Hub, Server};
use tokio::time::timeout;

/// Deadline of what is to succeed. Whatever takes longer hangs; a slow machine does not.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where the buses of a test meet.
pub enum Ground {
    Sockets(Directory),
    Process(Hub),
}

pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bus-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Ground {
    pub async fn open(&self, me: Address) -> (Bus, Server) {
        match self {
            Self::Sockets(directory) => Bus::open(&directory.0, me).await,
            Self::Process(hub) => Bus::in_process(hub, me),
        }
        .unwrap()
    }
}

/// Runs the test on both back ends, each on a current-thread runtime as in a manager.
pub fn on_both(test: impl AsyncFn(&Ground)) {
    for ground in [Ground::Sockets(Directory::new()), Ground::Process(Hub::new())] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { timeout(PATIENCE, test(&ground)).await.unwrap() });
    }
}

//! The process's own runtime, beside those of the proxy's threads.
//!
//! A thread that relays has no timers of its own: tokio's would read the clock and look for what is due around every
//! wait for events, which is a twentieth of the instructions of a small transaction outside of the kernel. What has a
//! deadline takes it from here and is woken across threads, which happens at logins and ends only.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, Timeout, interval, sleep, sleep_until, timeout, timeout_at};

/// A handle to it.
#[derive(Debug, Clone)]
pub(super) struct Background(Handle);

impl Background {
    /// The runtime that this is called on.
    pub fn current() -> Background {
        Background(Handle::current())
    }

    pub fn timeout<F: Future>(&self, time: Duration, future: F) -> Timeout<F> {
        let _entered = self.0.enter();
        timeout(time, future)
    }

    pub fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Timeout<F> {
        let _entered = self.0.enter();
        timeout_at(deadline, future)
    }

    pub fn sleep(&self, time: Duration) -> Sleep {
        let _entered = self.0.enter();
        sleep(time)
    }

    pub fn sleep_until(&self, deadline: Instant) -> Sleep {
        let _entered = self.0.enter();
        sleep_until(deadline)
    }

    /// Ticks now and then every `period`, and later where a tick was missed.
    pub fn interval(&self, period: Duration) -> tokio::time::Interval {
        let _entered = self.0.enter();
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    }

    /// Does there what needs timers and tasks of its own.
    pub async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, String>> + Send + 'static,
    ) -> Result<T, String> {
        self.0.spawn(future).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}
